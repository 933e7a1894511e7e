// A single step of one or two sequences, for inference: straight from the weights as they lie in memory.
// They are read once either way, and packing, or asking whether a packed copy is still true, would cost as
// much again as the step.
#pragma once

#include "forward_states.inl"
#include "gates.inl"
#include "packing.inl"

namespace fastgru {
namespace {

constexpr int64_t kStepRows = 2;

template <class Real>
bool is_single_step(const ForwardArgs<Real>& a) noexcept {
  const bool has_masks = a.noise.recurrent || a.noise.zoneout.data;
  return a.steps.T == 1 && a.steps.B <= kStepRows && !a.steps.rows && !a.resets.at.data && !has_masks && !a.saved &&
         a.form == Form::after;
}

// Rows walked along at once. The weights come from L2, which gives lines that follow each other faster than those of
// many rows or of two matrices in turns.
constexpr int64_t kRowsAtOnce = 4;

// sums[i] += the products of row first + i of w with v, lane by lane; rows from `units` on repeat the last.
template <class Real, int64_t R>
FASTGRU_INLINE void add_products(const Real* w, const Real* v, int64_t K, int64_t first, int64_t units,
                                 Vec<Real> (&sums)[R]) noexcept {
  constexpr int64_t W = kLanes<Real>;
  const Real* rows[R];
#pragma GCC unroll 4
  for (int64_t i = 0; i < R; ++i) rows[i] = w + min_of(first + i, units - 1) * K;
  int64_t k = 0;
  for (; k + W <= K; k += W) {
    const Vec<Real> x = load(v + k);
#pragma GCC unroll 4
    for (int64_t i = 0; i < R; ++i) sums[i] += load(rows[i] + k) * x;
  }
  if (k == K) return;
  const Vec<Real> x = load_lanes(v + k, K - k);
#pragma GCC unroll 4
  for (int64_t i = 0; i < R; ++i) sums[i] += load_lanes(rows[i] + k, K - k) * x;
}

// to[i] = w_i . v + bias[i] for kLanes rows of w [.., K], of which the first `units` exist; bias may be null.
template <class Real>
[[gnu::noinline]] void multiply_rows(const Real* w, const Real* v, int64_t K, int64_t units, const Real* bias,
                                     Real* to) noexcept {
  constexpr int64_t W = kLanes<Real>, R = min_of(kRowsAtOnce, W);
  Vec<Real> rows[W];
#pragma GCC unroll 16
  for (int64_t first = 0; first < W; first += R) {
    Vec<Real> sums[R];  // not `rows` itself, which GCC would keep in memory meanwhile
#pragma GCC unroll 4
    for (int64_t i = 0; i < R; ++i) sums[i] = Vec<Real>{};
    add_products<Real, R>(w, v, K, first, units, sums);
#pragma GCC unroll 4
    for (int64_t i = 0; i < R; ++i) rows[first + i] = sums[i];
  }
  transpose<Real>(rows);
#pragma GCC unroll 4
  for (int64_t half = W / 2; half > 0; half /= 2) {
#pragma GCC unroll 16
    for (int64_t i = 0; i < half; ++i) rows[i] += rows[i + half];
  }
  store(to, bias ? load_lanes(bias, units) + rows[0] : rows[0]);
}

// W v + bias of all gates of all units, W [3H, K], to [blocks][3][kLanes].
template <class Real>
void multiply_all(const Real* w, const Real* v, int64_t K, int64_t H, const Real* bias, Real* to) noexcept {
  constexpr int64_t W = kLanes<Real>;
  for (int64_t gate = 0; gate < 3; ++gate) {
    for (int64_t unit = 0; unit < H; unit += W) {
      const int64_t row = gate * H + unit;
      multiply_rows(w + row * K, v, K, min_of(W, H - unit), bias ? bias + row : nullptr, to + 3 * unit + gate * W);
    }
  }
}

// What a step of one sequence works with.
template <class Real>
struct StepScratch {
  static constexpr int64_t W = kLanes<Real>;
  Real *state, *h_next;  // [state_pitch]
  Real *gx, *gh;         // [blocks][3][W]

  static int64_t elements(int64_t H) noexcept { return 2 * (state_pitch<Real>(H) + 3 * round_up(H, W)); }

  StepScratch(Real* at, int64_t H) noexcept
      : state(at), h_next(at + state_pitch<Real>(H)), gx(at + 2 * state_pitch<Real>(H)), gh(gx + 3 * round_up(H, W)) {}
};

// The gates of `count` blocks of units, each with `units` of them. One after the other would take as long as its chain
// of operations; these run side by side.
template <class Real>
void step_gates(const ForwardArgs<Real>& a, const StepScratch<Real>& scratch, int64_t block, int64_t count,
                int64_t units, Real* h_n) noexcept {
  constexpr int64_t W = kLanes<Real>;
  alignas(64) Real keep[W];
  store(keep, splat(a.noise.keep));
  GateTile<Real> tile{};
  tile.rows = count;
  tile.units = units;
  tile.gx = scratch.gx + block * 3 * W;
  tile.gh = scratch.gh + block * 3 * W;
  tile.h = scratch.state + block * W;
  tile.h_next = tile.carried = scratch.h_next + block * W;
  tile.ldh = W;
  tile.keep = keep;
  for (int64_t i = 0; i < count; ++i) tile.y[i] = h_n + (block + i) * W;
  if (is_noisy(a.noise)) return apply_gates<Real, false, true, true>(tile);
  apply_gates<Real, false, true, false>(tile);
}

// One sequence of one direction.
template <class Real>
void step_sequence(const ForwardArgs<Real>& a, int64_t d, int64_t b, const StepScratch<Real>& scratch) noexcept {
  constexpr int64_t W = kLanes<Real>;
  const int64_t H = a.H, at = (d * a.steps.B + slot_of(a.steps, b)) * H, whole = H / W;
  // Zeros too are multiplied, so that a NaN in W_hh shows: a step without h0 costs what one with it does.
  for (int64_t i = 0; i < H; i += W) {
    if (a.h0) {
      copy_padded(scratch.state + i, a.h0 + at + i, H - i);
    } else {
      store(scratch.state + i, Vec<Real>{});
    }
  }
  const Real* x = row_of(a.x, a.steps, 0, b);
  const Parameters<const Real>& p = a.parameters[d];
  multiply_all(p.w_ih, x, a.I, H, p.b_ih, scratch.gx);
  multiply_all(p.w_hh, scratch.state, H, H, p.b_hh, scratch.gh);
  for (int64_t block = 0, n; block < whole; block += n) {
    n = min_of(whole - block, kForwardRows);
    step_gates(a, scratch, block, n, W, a.h_n + at);
  }
  if (whole * W < H) step_gates(a, scratch, whole, 1, H - whole * W, a.h_n + at);
  if (a.y.data)
    __builtin_memcpy(row_of(a.y, a.steps, 0, b) + d * H, a.h_n + at, static_cast<uint64_t>(H) * sizeof(Real));
}

template <class Real>
void single_step(const ForwardArgs<Real>& a, Real* scratch) noexcept {
  for (int64_t d = 0; d < a.D; ++d) {
    for (int64_t b = 0; b < a.steps.B; ++b) step_sequence(a, d, b, StepScratch<Real>(scratch, a.H));
  }
}

}  // namespace
}  // namespace fastgru
