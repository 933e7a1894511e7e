// The gates and the new state of a tile, once its products are there.
#pragma once

#include "gru.h"
#include "range.inl"

namespace fastgru {
namespace {

// A tile of one unit block at one step, for the gate arithmetic.
template <class Real>
struct GateTile {
  int64_t rows;    // <= kForwardRows
  int64_t units;   // that exist in this block
  const Real* gx;  // [rows][3][kLanes]: W_ih x + biases
  const Real* gh;  // [rows][3][kLanes]: W_hh h, and b_hn
  const Real* h;   // [rows], ldh apart
  Real* h_next;    // [rows], ldh apart
  int64_t ldh;
  Real* y[kForwardRows];
  Real* saved;  // [rows], lds apart: r; z, n, q lie H further each
  int64_t lds, H;
  // With noise alone: h_next is then what W_hh sees, and the state itself replaces h.
  Real* carried;                        // h, to be written
  const Real* keep;                     // m where it is the same everywhere: kLanes numbers
  const Real* zoneout[kForwardRows];    // m, or null: keep
  const Real* recurrent[kForwardRows];  // or null: 1
  // Of Form::before alone, whose gx holds z once it is known.
  const Real* seen;  // what W_hr and W_hz saw; [rows], ldh apart
  Real* reset;       // r * seen, which W_hn sees; [rows], ldh apart
};

// The state after zoneout, stored as the state and as what W_hh sees of it.
template <class Real, bool kPart>
FASTGRU_INLINE Vec<Real> add_noise(const GateTile<Real>& tile, int64_t m, Vec<Real> before, Vec<Real> h) noexcept {
  const Vec<Real> keep = tile.zoneout[m] ? load_if<kPart>(tile.zoneout[m], tile.units) : load(tile.keep);
  h = before + keep * (h - before);
  store(tile.carried + m * tile.ldh, h);
  store(tile.h_next + m * tile.ldh, tile.recurrent[m] ? h * load_if<kPart>(tile.recurrent[m], tile.units) : h);
  return h;
}

template <class Real, bool kSave, bool kPart, bool kNoise>
[[gnu::noinline]] void apply_gates(const GateTile<Real>& tile) noexcept {
  constexpr int64_t W = kLanes<Real>;
  for (int64_t m = 0; m < tile.rows; ++m) {
    const Real *gx = tile.gx + m * 3 * W, *gh = tile.gh + m * 3 * W;
    const Vec<Real> r = sigmoid<Real>(load(gx) + load(gh));
    const Vec<Real> z = sigmoid<Real>(load(gx + W) + load(gh + W));
    const Vec<Real> q = load(gh + 2 * W);
    const Vec<Real> n = tanh<Real>(load(gx + 2 * W) + r * q);
    const Vec<Real> before = load(tile.h + m * tile.ldh);
    Vec<Real> h = n + z * (before - n);
    if constexpr (kNoise) {
      h = add_noise<Real, kPart>(tile, m, before, h);
    } else {
      store(tile.h_next + m * tile.ldh, h);
    }
    store_if<kPart>(tile.y[m], h, tile.units);
    if constexpr (kSave) {
      Real* saved = tile.saved + m * tile.lds;
      store_if<kPart>(saved, r, tile.units);
      store_if<kPart>(saved + tile.H, z, tile.units);
      store_if<kPart>(saved + 2 * tile.H, n, tile.units);
      store_if<kPart>(saved + 3 * tile.H, q, tile.units);
    }
  }
}

template <class Real, bool kSave, bool kNoise>
FASTGRU_INLINE void apply_gates(const GateTile<Real>& tile) noexcept {
  if (tile.units >= kLanes<Real>) return apply_gates<Real, kSave, false, kNoise>(tile);
  apply_gates<Real, kSave, true, kNoise>(tile);
}

// Form::before, first half: gh [rows][2][kLanes] is W_hr h and W_hz h.
template <class Real, bool kPart>
[[gnu::noinline]] void apply_reset(const GateTile<Real>& tile, Real* gx, const Real* gh) noexcept {
  constexpr int64_t W = kLanes<Real>;
  for (int64_t m = 0; m < tile.rows; ++m, gx += 3 * W, gh += 2 * W) {
    const Vec<Real> r = sigmoid<Real>(load(gx) + load(gh)), z = sigmoid<Real>(load(gx + W) + load(gh + W));
    store(tile.reset + m * tile.ldh, r * load(tile.seen + m * tile.ldh));
    store(gx + W, z);
    if (!tile.saved) continue;
    store_if<kPart>(tile.saved + m * tile.lds, r, tile.units);
    store_if<kPart>(tile.saved + m * tile.lds + tile.H, z, tile.units);
  }
}

template <class Real>
FASTGRU_INLINE void apply_reset(const GateTile<Real>& tile, Real* gx, const Real* gh) noexcept {
  if (tile.units >= kLanes<Real>) return apply_reset<Real, false>(tile, gx, gh);
  apply_reset<Real, true>(tile, gx, gh);
}

// Form::before, second half: gh [rows][kLanes] is W_hn (r * h).
template <class Real, bool kPart>
[[gnu::noinline]] void apply_candidate(const GateTile<Real>& tile) noexcept {
  constexpr int64_t W = kLanes<Real>;
  for (int64_t m = 0; m < tile.rows; ++m) {
    const Real* gx = tile.gx + m * 3 * W;
    const Vec<Real> n = tanh<Real>(load(gx + 2 * W) + load(tile.gh + m * W));
    const Vec<Real> before = load(tile.h + m * tile.ldh);
    const Vec<Real> h = add_noise<Real, kPart>(tile, m, before, n + load(gx + W) * (before - n));
    store_if<kPart>(tile.y[m], h, tile.units);
    if (tile.saved) store_if<kPart>(tile.saved + m * tile.lds + 2 * tile.H, n, tile.units);
  }
}

template <class Real>
FASTGRU_INLINE void apply_candidate(const GateTile<Real>& tile) noexcept {
  if (tile.units >= kLanes<Real>) return apply_candidate<Real, false>(tile);
  apply_candidate<Real, true>(tile);
}

}  // namespace
}  // namespace fastgru
