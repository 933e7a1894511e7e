// A single step of one or two sequences, for inference: straight from the weights as they lie in memory.
// They are read once either way, and packing, or asking whether a packed copy is still true, would cost as
// much again as the step.
#pragma once

#include "gru_forward.inl"

namespace fastgru {
namespace {

constexpr int64_t kStepRows = 2;

template <class Real>
bool is_single_step(const ForwardArgs<Real>& a) noexcept {
  return a.steps.T == 1 && a.steps.B <= kStepRows && !a.steps.rows && !a.resets.at.data && !is_noisy(a.noise) &&
         !a.saved && a.form == Form::after;
}

// sums[i] += the products of row i of w with v, lane by lane, for kLanes rows; rows from `units` on repeat the last.
template <class Real>
FASTGRU_INLINE void add_products(const Real* w, const Real* v, int64_t K, int64_t units,
                                 Vec<Real> (&sums)[kLanes<Real>]) noexcept {
  constexpr int64_t W = kLanes<Real>;
  const Real* rows[W];
  for (int64_t i = 0; i < W; ++i) rows[i] = w + min_of(i, units - 1) * K;
  int64_t k = 0;
  for (; k + W <= K; k += W) {
    const Vec<Real> x = load(v + k);
#pragma GCC unroll 16
    for (int64_t i = 0; i < W; ++i) sums[i] += load(rows[i] + k) * x;
  }
  if (k == K) return;
  const Vec<Real> x = load_lanes(v + k, K - k);
#pragma GCC unroll 16
  for (int64_t i = 0; i < W; ++i) sums[i] += load_lanes(rows[i] + k, K - k) * x;
}

// to[i] = w_i . v + u_i . h for kLanes rows of w [.., K] and u [.., H]; either may be null.
template <class Real>
[[gnu::noinline]] void multiply_rows(const Real* w, const Real* v, int64_t K, const Real* u, const Real* h, int64_t H,
                                     int64_t units, Vec<Real> start, Real* to) noexcept {
  constexpr int64_t W = kLanes<Real>;
  Vec<Real> sums[W] = {};
  if (w) add_products(w, v, K, units, sums);
  if (u) add_products(u, h, H, units, sums);
  transpose<Real>(sums);
#pragma GCC unroll 4
  for (int64_t half = W / 2; half > 0; half /= 2) {
#pragma GCC unroll 16
    for (int64_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  store(to, start + sums[0]);
}

// One sequence of one direction. state: two rows of state_pitch.
template <class Real>
void step_sequence(const ForwardArgs<Real>& a, int64_t d, int64_t b, Real* state) noexcept {
  constexpr int64_t W = kLanes<Real>;
  const Parameters<const Real>& p = a.parameters[d];
  const int64_t H = a.H, at = (d * a.steps.B + slot_of(a.steps, b)) * H;
  Real* h_next = state + state_pitch<Real>(H);
  // Zeros too are multiplied, so that a NaN in W_hh shows: a step without h0 costs what one with it does.
  for (int64_t i = 0; i < H; i += W) {
    if (a.h0) {
      copy_padded(state + i, a.h0 + at + i, H - i);
    } else {
      store(state + i, Vec<Real>{});
    }
  }
  const Real* x = row_of(a.x, a.steps, 0, b);
  alignas(64) Real gx[3 * W], gh[3 * W] = {};
  for (int64_t unit = 0; unit < H; unit += W) {
    const int64_t units = min_of(W, H - unit);
    for (int64_t gate = 0; gate < 3; ++gate) {
      const int64_t row = gate * H + unit;
      const Vec<Real> b_ih = p.b_ih ? load_lanes(p.b_ih + row, units) : Vec<Real>{};
      const Vec<Real> b_hh = p.b_hh ? load_lanes(p.b_hh + row, units) : Vec<Real>{};
      const Real *w = p.w_ih + row * a.I, *u = p.w_hh + row * H;
      if (gate < 2) {
        multiply_rows<Real>(w, x, a.I, u, state, H, units, b_ih + b_hh, gx + gate * W);
      } else {
        multiply_rows<Real>(w, x, a.I, nullptr, nullptr, 0, units, b_ih, gx + gate * W);
        multiply_rows<Real>(nullptr, nullptr, 0, u, state, H, units, b_hh, gh + gate * W);
      }
    }
    GateTile<Real> tile{};
    tile.rows = 1;
    tile.units = units;
    tile.gx = gx;
    tile.gh = gh;
    tile.h = state + unit;
    tile.h_next = h_next + unit;
    tile.y[0] = row_of(a.y, a.steps, 0, b) + d * H + unit;
    apply_gates<Real, false, true>(tile);
    store_lanes(a.h_n + at + unit, load(h_next + unit), units);
  }
}

template <class Real>
void single_step(const ForwardArgs<Real>& a, Real* state) noexcept {
  for (int64_t d = 0; d < a.D; ++d) {
    for (int64_t b = 0; b < a.steps.B; ++b) step_sequence(a, d, b, state);
  }
}

}  // namespace
}  // namespace fastgru
