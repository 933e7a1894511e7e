#include "comparison.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

namespace fastgru::tests {

double error_of(const Tensor<double>& got, const Tensor<double>& expected, const Tensor<uint8_t>& exists) {
  double difference = 0, scale = 1e-6;
  for (int64_t i = 0; i < got.size(); ++i) {
    if (!exists.empty() && !exists[i]) {
      if (!std::isnan(got[i])) return std::numeric_limits<double>::infinity();
      continue;
    }
    difference += (got[i] - expected[i]) * (got[i] - expected[i]);
    scale += expected[i] * expected[i];
  }
  return std::sqrt(difference / scale);
}

Tensor<uint8_t> existing(const Problem& p, int64_t features) {
  Tensor<uint8_t> out(p.rows_in_memory() * features);
  for (int64_t b = 0; b < p.B; ++b) {
    for (int64_t t = 0; t < p.lengths[b]; ++t) {
      for (int64_t i = 0; i < features; ++i) out[p.at(t, b) * features + i] = 1;
    }
  }
  return out;
}

void describe(const Problem& p) {
  const auto number = [](int64_t n) { return static_cast<long long>(n); };
  std::printf("  form %d I %lld H %lld D %lld T %lld B %lld", static_cast<int>(p.form), number(p.I), number(p.H),
              number(p.D), number(p.T), number(p.B));
  std::printf(" bias %d packed %d joined %d ordered %d h0 %d resets %d reverse %d\n", p.bias, p.packed, p.joined,
              p.ordered, p.with_h0, !p.resets.empty(), p.reverse);
}

bool same_bits(const Tensor<double>& a, const Tensor<double>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](double x, double y) { return x == y || (std::isnan(x) && std::isnan(y)); });
}

}  // namespace fastgru::tests
