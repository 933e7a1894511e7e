#include "low_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace fastgru::tests {
namespace {

// What kernels compute of a row, r * h, is off by less than so much of it.
constexpr double kOff = 1e-6;

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();

// Whether `number`, which is off by up to `off`, may be rounded down or up.
bool is_edge(double number, double off) { return std::abs(number - std::floor(number) - 0.5) <= off; }

int8_t whole_of(double number) { return static_cast<int8_t>(std::clamp(std::nearbyint(number), -127.0, 127.0)); }

}  // namespace

uint16_t bf16_of(float number) {
  uint32_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float float_of(uint16_t bf16) {
  const uint32_t bits = static_cast<uint32_t>(bf16) << 16;
  float number;
  std::memcpy(&number, &bits, sizeof number);
  return number;
}

WholeRow::WholeRow(const Tensor<float>& row) : numbers(row.size()), worth(std::numeric_limits<float>::quiet_NaN()) {
  float most = 1e-30f;
  for (const float x : row) {
    if (!std::isfinite(x)) return;
    most = std::max(most, std::abs(x));
  }
  const float by = 127 / most;
  for (int64_t k = 0; k < row.size(); ++k) numbers[k] = std::nearbyint(row[k] * by);
  worth = most / 127;
}

LowWeights::Matrix::Matrix(Tensor<double>& w, int64_t rows, Precision precision) {
  const int64_t K = w.size() / rows;
  if (precision == Precision::bf16) {
    halves = Tensor<uint16_t>(w.size());
    for (int64_t i = 0; i < w.size(); ++i) w[i] = float_of(halves[i] = bf16_of(static_cast<float>(w[i])));
    return;
  }
  whole = Tensor<int8_t>(w.size());
  scale = Tensor<float>(rows);
  for (int64_t j = 0; j < rows; ++j) {
    double most = 0;
    for (int64_t k = 0; k < K; ++k) most = std::max(most, std::abs(w[j * K + k]));
    const double unit = scale[j] = most > 0 ? static_cast<float>(most / 127) : 1.0f;
    for (int64_t i = j * K; i < (j + 1) * K; ++i) w[i] = unit * (whole[i] = whole_of(w[i] / unit));
  }
}

const void* LowWeights::Matrix::data() const {
  return whole.empty() ? static_cast<const void*>(halves.data()) : whole.data();
}

LowWeights::LowWeights(Weights<double>& weights, int64_t H, Precision precision)
    : w_ih_(weights.w_ih, 3 * H, precision), w_hh_(weights.w_hh, 3 * H, precision), others_(weights) {}

LowParameters LowWeights::view() const {
  return {w_ih_.data(),        w_hh_.data(),        w_ih_.scale.data(),  w_hh_.scale.data(),
          others_.b_ih.data(), others_.b_hh.data(), others_.g_ih.data(), others_.g_hh.data()};
}

Tensor<double> as_whole_numbers(const Tensor<double>& row, bool is_rounded) {
  const WholeRow whole{Tensor<float>(row)};
  Tensor<double> out(row.size());
  for (int64_t k = 0; k < row.size(); ++k) {
    const double worth = whole.worth, exact = row[k] / worth;  // both may be off
    const bool is_unknown = is_rounded && is_edge(exact, 2 * kOff * std::abs(exact));
    out[k] = is_unknown ? kUnknown : whole.numbers[k] * worth;
  }
  return out;
}

Tensor<double> as_bf16(const Tensor<double>& row, bool is_rounded) {
  Tensor<double> out(row.size());
  for (int64_t k = 0; k < row.size(); ++k) {
    const auto nearest = [&](double share) { return float_of(bf16_of(static_cast<float>(row[k] * share))); };
    const float number = std::isfinite(row[k]) ? nearest(1) : static_cast<float>(row[k]);
    const bool is_unknown = is_rounded && nearest(1 - kOff) != nearest(1 + kOff);
    out[k] = is_unknown ? kUnknown : static_cast<double>(number);
  }
  return out;
}

}  // namespace fastgru::tests
