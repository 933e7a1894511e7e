#include "problem.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

namespace fastgru::tests {
namespace {

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int64_t below(int64_t n) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }
  bool flip() { return below(2) == 1; }
  bool once_in(int64_t n) { return below(n) == 0; }
  template <class T, std::size_t N>
  T one_of(const T (&values)[N]) {
    return values[below(N)];
  }
  Tensor<double> normal(int64_t n, double scale) {
    Tensor<double> out(n);
    std::normal_distribution<float> normal;
    for (double& v : out) v = static_cast<double>(static_cast<float>(scale) * normal(engine_));
    return out;
  }
  // `value`, and zero once in three.
  Tensor<double> mask(int64_t n, double value) {
    Tensor<double> out(n);
    for (double& v : out) v = once_in(3) ? 0 : value;
    return out;
  }

 private:
  std::mt19937 engine_;
};

void draw_sizes(Random& random, Problem& p) {
  constexpr int64_t kSizes[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 40, 65};
  constexpr Form kForms[] = {Form::after, Form::after, Form::before, Form::normed};
  p.I = random.one_of(kSizes);
  p.H = random.one_of(kSizes);
  p.D = 1 + random.below(2);
  p.reverse = p.D == 1 && random.once_in(3);
  p.T = random.once_in(4) ? 1 : 1 + random.below(random.flip() ? 3 : 12);
  p.B = random.once_in(12) ? 270 : 1 + random.below(random.flip() ? 40 : 8);
  p.bias = random.flip();
  p.form = random.one_of(kForms);
  // A norm of few numbers, or of multiples of one column, has gradients that are nothing but cancellation.
  if (p.form == Form::normed) p.I = std::max<int64_t>(p.I, 15), p.H = std::max<int64_t>(p.H, 15);
  p.with_h0 = random.flip();
}

void draw_lengths(Random& random, Problem& p) {
  p.packed = random.once_in(3);
  p.joined = !p.packed && random.once_in(3);
  if (p.T == 1 && random.flip()) p.packed = p.joined = false;
  const bool ragged = p.compact() || random.once_in(3);
  p.ordered = !p.packed && ragged;
  p.lengths = p.order = p.start = Tensor<int64_t>(p.B);
  p.rows = p.first = Tensor<int64_t>(p.T);
  for (int64_t b = 0, length = p.T, start = 0; b < p.B; ++b) {
    if (ragged && random.once_in(3)) length = p.packed ? 1 + random.below(length) : random.below(length + 1);
    p.lengths[b] = length;
    p.order[b] = p.B % 7 == 0 ? p.B - 1 - b : (b * 7 + 3) % p.B;
    p.start[b] = start;
    start += length;
  }
  for (int64_t t = 0, first = 0; t < p.T; first += p.rows[t++]) {
    for (const int64_t length : p.lengths) p.rows[t] += t < length ? 1 : 0;
    p.first[t] = first;
  }
}

Weights<double> draw_weights(Random& random, const Problem& p) {
  Weights<double> out;
  out.w_ih = random.normal(3 * p.H * p.I, 0.3);
  out.w_hh = random.normal(3 * p.H * p.H, 0.8 / std::sqrt(static_cast<double>(p.H)));
  if (p.bias) out.b_ih = random.normal(3 * p.H, 0.3), out.b_hh = random.normal(3 * p.H, 0.3);
  if (p.form == Form::normed) out.g_ih = random.normal(3 * p.H, 1), out.g_hh = random.normal(3 * p.H, 1);
  return out;
}

void draw_tensors(Random& random, Problem& p) {
  const int64_t rows = p.rows_in_memory(), states = p.D * p.B * p.H;
  p.x = random.normal(rows * p.I, 1);
  if (p.with_h0) p.h0 = random.normal(states, 1);
  if (random.once_in(3)) {
    constexpr uint8_t kBits[] = {2, 0x80, 0x82, 0, 0, 0, 0, 0};
    p.resets = Tensor<uint8_t>(rows);
    for (uint8_t& bits : p.resets) bits = random.one_of(kBits);
    if (random.flip()) p.initial = random.normal(p.D * p.H, 1);
  }
  if (random.once_in(4)) p.recurrent = random.mask(states, 1.5);
  if (random.once_in(4)) p.zoneout = random.mask(rows * p.D * p.H, 1);
  if (random.once_in(6)) p.keep = 0.75;
  if (!random.once_in(4)) p.dy = random.normal(rows * p.D * p.H, 1);
  if (p.dy.empty() || random.flip()) p.dh_n = random.normal(states, 1);
}

}  // namespace

Problem draw(uint32_t seed) {
  Random random(seed);
  Problem p{};
  draw_sizes(random, p);
  draw_lengths(random, p);
  for (int64_t d = 0; d < p.D; ++d) p.weights[d] = draw_weights(random, p);
  draw_tensors(random, p);
  return p;
}

Problem nudged(Problem p, double by) {
  Random random(1);
  const auto nudge = [&](Tensor<double>& numbers) {
    for (double& v : numbers) v *= random.flip() ? 1 + by : 1 - by;
  };
  nudge(p.x);
  for (Weights<double>& weights : p.weights) nudge(weights.w_ih), nudge(weights.w_hh);
  return p;
}

Results<double> blank(const Problem& p, double fill) {
  Results<double> out;
  const auto make = [&](int64_t n) { return Tensor<double>(n, fill); };
  out.y = make(p.rows_in_memory() * p.D * p.H);
  out.dx = make(p.rows_in_memory() * p.I);
  out.h_n = out.dh0 = make(p.D * p.B * p.H);
  if (!p.initial.empty()) out.dinitial = make(p.D * p.H);
  for (int64_t d = 0; d < p.D; ++d) {
    Weights<double>& gradients = out.gradients[d];
    gradients.w_ih = make(3 * p.H * p.I);
    gradients.w_hh = make(3 * p.H * p.H);
    gradients.b_ih = gradients.b_hh = make(3 * p.H);
    if (p.form == Form::normed) gradients.g_ih = gradients.g_hh = make(3 * p.H);
  }
  return out;
}

bool has_second_derivatives(const Problem& p) {
  const bool is_noisy = !p.recurrent.empty() || !p.zoneout.empty() || p.keep != 1;
  return p.T == 1 && p.form == Form::after && !is_noisy && p.resets.empty() && !p.ragged();
}

Results<double> draw_direction(const Problem& p, uint32_t seed) {
  Random random(seed);
  Results<double> out;
  out.dx = random.normal(p.x.size(), 1);
  out.dh0 = random.normal(p.h0.size(), 1);
  for (int64_t d = 0; d < p.D; ++d) out.gradients[d] = draw_weights(random, p);
  return out;
}

namespace {

void add_scaled(Tensor<double>& to, const Tensor<double>& from, double factor) {
  for (int64_t i = 0; i < from.size(); ++i) to[i] += factor * from[i];
}

void add_scaled(Weights<double>& to, const Weights<double>& from, double factor) {
  add_scaled(to.w_ih, from.w_ih, factor);
  add_scaled(to.w_hh, from.w_hh, factor);
  add_scaled(to.b_ih, from.b_ih, factor);
  add_scaled(to.b_hh, from.b_hh, factor);
}

}  // namespace

Results<double> expect_second(const Problem& p, const Results<double>& direction) {
  constexpr double kStep = 0x1p-12;  // relative errors of up to 1e-11 were seen
  Results<double> sum = blank(p, 0);
  for (const auto& [steps, factor] : {std::pair{1, 8.0}, std::pair{-1, -8.0}, std::pair{2, -1.0}, std::pair{-2, 1.0}}) {
    Problem moved = p;
    add_scaled(moved.x, direction.dx, steps * kStep);
    add_scaled(moved.h0, direction.dh0, steps * kStep);
    for (int64_t d = 0; d < p.D; ++d) add_scaled(moved.weights[d], direction.gradients[d], steps * kStep);
    const Results<double> there = expect(moved);
    const double share = factor / (12 * kStep);
    add_scaled(sum.y, there.y, share);
    add_scaled(sum.h_n, there.h_n, share);
    add_scaled(sum.dx, there.dx, share);
    add_scaled(sum.dh0, there.dh0, share);
    for (int64_t d = 0; d < p.D; ++d) add_scaled(sum.gradients[d], there.gradients[d], share);
  }
  return sum;
}

}  // namespace fastgru::tests
