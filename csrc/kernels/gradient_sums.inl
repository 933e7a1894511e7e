// The gradients of biases and gains: sums over all rows of the thread's units.
#pragma once

#include "backward_part.inl"

namespace fastgru {
namespace {

template <class Real, Form kForm>
class GradientSums {
 public:
  explicit GradientSums(const BackwardPart<Real>& part) noexcept : p_(part) {}

  void clear() noexcept {
    for (int64_t which = 0; which < dgates_width(kForm); ++which) {
      for (int64_t j = p_.blocks.begin; j < p_.blocks.end; ++j) store(sum(which, j), Vec<Real>{});
    }
  }

  // gate: n r z q.
  void add_bias(const Chunk& chunk, int64_t gate) noexcept {
    if (!(p_.gradients.b_ih || p_.gradients.b_hh) || gate >= dgates_width(kForm)) return;
    const int64_t rows = chunk.rows, ldg = p_.work.ldg;
    for (int64_t j = p_.blocks.begin; j < p_.blocks.end; ++j) {
      const Real* from = p_.work.buffers[chunk.buffer].dgates + gate * p_.a.H + j * W;
      Vec<Real> total{};
      for (int64_t k = 0; k < rows; ++k) total += load(from + k * ldg);
      store(sum(gate, j), load(sum(gate, j)) + total);
    }
  }

  // The gradients of gain * v + bias times v.
  void add_gains(const Chunk& chunk) noexcept {
    if (kForm != Form::normed || !(p_.gradients.g_ih || p_.gradients.g_hh)) return;
    const Real* dgates = p_.work.buffers[chunk.buffer].dgates;
    for_rows(p_, chunk, {0, chunk.rows},
             [&](int64_t row, int64_t t, int64_t b) { add_row(dgates + row * p_.work.ldg, p_.saved_of(kForm, t, b)); });
  }

  void write() noexcept {
    const Parameters<Real>& to = p_.gradients;
    if (to.b_ih) write_sums(to.b_ih, {1, 2, 0});
    if (to.b_hh) write_sums(to.b_hh, {1, 2, kForm == Form::before ? 0 : 3});
    if (kForm == Form::normed && to.g_ih) write_sums(to.g_ih, {5, 6, 4});
    if (kForm == Form::normed && to.g_hh) write_sums(to.g_hh, {7, 8, 9});
  }

 private:
  static constexpr int64_t W = kLanes<Real>;

  // The gates n, r, z, q for the biases; of Form::normed then what the gains get of n, r, z and of r, z, q.
  Real* sum(int64_t which, int64_t block) const noexcept {
    return p_.work.sums + which * round_up(p_.a.H, W) + block * W;
  }

  // v: the norms of W_ih x, then those of W_hh h.
  void add_row(const Real* dgates, const Real* v) noexcept {
    const int64_t H = p_.a.H;
    for (int64_t gate = 0; gate < 4; ++gate) {  // n r z q
      for (int64_t j = p_.blocks.begin; j < p_.blocks.end; ++j) {
        const int64_t unit = j * W, units = min_of(W, H - unit);
        const Vec<Real> d = load_lanes(dgates + gate * H + unit, units);
        const auto add = [&](int64_t which, const Real* from) {
          store(sum(which, j), load(sum(which, j)) + d * load_lanes(from + unit, units));
        };
        if (gate < 3) add(4 + gate, v + (gate + 2) % 3 * H);
        if (gate > 0) add(6 + gate, v + (gate + 2) * H);
      }
    }
  }

  // which: the sums of r, z and n.
  void write_sums(Real* to, const int64_t (&which)[3]) noexcept {
    for (int64_t i = 0; i < 3; ++i) {
      for (int64_t j = p_.blocks.begin; j < p_.blocks.end; ++j) {
        write_row(to + i * p_.a.H + j * W, sum(which[i], j), min_of(W, p_.a.H - j * W), false);
      }
    }
  }

  const BackwardPart<Real>& p_;
};

}  // namespace
}  // namespace fastgru
