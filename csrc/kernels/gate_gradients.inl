// The gradients of a tile's gates at one step.
//
//     u  = dh * z                        (goes on to h)
//     dn = (dh - u) * (1 - n^2)          dz = u * (1 - z) * (h - n)
//     dq = dn * r                        dr = dq * q * (1 - r)
//
// Form::before: with p = W_hn^T dn, dr = p * h * r * (1 - r), and p * r goes to h.
#pragma once

#include "gemm.inl"
#include "gru.h"

namespace fastgru {
namespace {

// Where in a row of dgates what lies, H numbers each.
//   after: [n, r, z, q]; (n, r, z) is what dx needs and (r, z, q) what dh needs, each in one piece
//   before: [n, r, z]; dh needs (r, z), and n in a product of its own
//   normed: [n, r, z, q] of gain * norm + bias, then (n, r, z) of W_ih x and (r, z, q) of W_hh h
constexpr int64_t dgates_width(Form form) noexcept { return form == Form::after ? 4 : form == Form::before ? 3 : 10; }
constexpr int64_t of_input(Form form) noexcept { return form == Form::normed ? 4 : 0; }
constexpr int64_t of_recurrent(Form form) noexcept { return form == Form::normed ? 7 : 1; }

// A tile of one vector of units at one step.
template <class Real>
struct GradientTile {
  int64_t rows, units, H;
  const Real* dh;  // [rows], ldd apart: W_hh^T (dr, dz, dq) of the step after
  int64_t ldd;
  Real* carry;  // [rows], ldc apart: u of the step after; replaced by this step's
  int64_t ldc;
  const Real* dy[kBackwardRows];
  const Real* h[kBackwardRows];  // before this step
  const Real* saved;             // [rows], lds apart
  int64_t lds;
  Real* dgates;  // [rows], ldg apart
  int64_t ldg;
  // With noise alone, and in forms but the first.
  Real keep;
  const Real* zoneout[kBackwardRows];    // m, or null: keep
  const Real* recurrent[kBackwardRows];  // or null: 1
  // Of Form::normed alone; biases may be null.
  const Real *g_ih, *g_hh, *b_ih, *b_hh;
};

// Of Form::normed.
template <class Real>
void set_norm(GradientTile<Real>& tile, const Parameters<const Real>& p, int64_t unit) noexcept {
  tile.g_ih = p.g_ih + unit;
  tile.g_hh = p.g_hh + unit;
  tile.b_ih = p.b_ih ? p.b_ih + unit : nullptr;
  tile.b_hh = p.b_hh ? p.b_hh + unit : nullptr;
}

// The gates of a row that is saved normalised.
template <class Real>
struct Gates {
  Vec<Real> r, z, n, q;
};

template <class Real, bool kPart>
FASTGRU_INLINE Gates<Real> gates_of(const GradientTile<Real>& tile, const Real* saved) noexcept {
  const auto affine = [&](int64_t side, int64_t gate, const Real* gain, const Real* bias)
                          __attribute__((always_inline)) {
                            const Vec<Real> v = load_if<kPart>(saved + (side * 3 + gate) * tile.H, tile.units);
                            const Vec<Real> product = v * load_if<kPart>(gain + gate * tile.H, tile.units);
                            return bias ? product + load_if<kPart>(bias + gate * tile.H, tile.units) : product;
                          };
  const auto x = [&](int64_t gate) __attribute__((always_inline)) { return affine(0, gate, tile.g_ih, tile.b_ih); };
  const auto h = [&](int64_t gate) __attribute__((always_inline)) { return affine(1, gate, tile.g_hh, tile.b_hh); };
  const Vec<Real> r = sigmoid<Real>(x(0) + h(0)), z = sigmoid<Real>(x(1) + h(1)), q = h(2);
  return {r, z, tanh<Real>(x(2) + r * q), q};
}

template <class Real, Form kForm, bool kPart>
FASTGRU_INLINE Gates<Real> saved_gates(const GradientTile<Real>& tile, const Real* saved) noexcept {
  if constexpr (kForm == Form::normed) return gates_of<Real, kPart>(tile, saved);
  const int64_t H = tile.H, units = tile.units;
  return {load_if<kPart>(saved, units), load_if<kPart>(saved + H, units), load_if<kPart>(saved + 2 * H, units),
          load_if<kPart>(saved + 3 * H, units)};
}

template <class Real, Form kForm, bool kPart, bool kNoise>
[[gnu::noinline]] void differentiate_gates(const GradientTile<Real>& tile) noexcept {
  const int64_t H = tile.H, units = tile.units;
  for (int64_t m = 0; m < tile.rows; ++m) {
    const auto [r, z, n, q] = saved_gates<Real, kForm, kPart>(tile, tile.saved + m * tile.lds);
    const Vec<Real> h = load_if<kPart>(tile.h[m], units), dy = load_if<kPart>(tile.dy[m], units);
    const Vec<Real> whole = dy + (load(tile.carry + m * tile.ldc) + load(tile.dh + m * tile.ldd));
    Vec<Real> dh = whole;
    if constexpr (kNoise) {
      dh *= tile.zoneout[m] ? load_if<kPart>(tile.zoneout[m], units) : splat(tile.keep);
    }
    const Vec<Real> u = dh * z, dn = (dh - u) * (Real(1) - n * n), dz = u * (Real(1) - z) * (h - n);
    const Vec<Real> dq = dn * r, dr = dq * q * (Real(1) - r);
    store(tile.carry + m * tile.ldc, kNoise ? u + (whole - dh) : u);
    Real* dgates = tile.dgates + m * tile.ldg;
    store_if<kPart>(dgates, dn, units);
    store_if<kPart>(dgates + H, dr, units);
    store_if<kPart>(dgates + 2 * H, dz, units);
    store_if<kPart>(dgates + 3 * H, dq, units);
  }
}

template <class Real, Form kForm, bool kNoise>
FASTGRU_INLINE void differentiate_gates(const GradientTile<Real>& tile) noexcept {
  if (tile.units >= kLanes<Real>) return differentiate_gates<Real, kForm, false, kNoise>(tile);
  differentiate_gates<Real, kForm, true, kNoise>(tile);
}

// Form::before, first half: dn, dz and the carry.
template <class Real, bool kPart>
[[gnu::noinline]] void differentiate_candidate(const GradientTile<Real>& tile) noexcept {
  const int64_t H = tile.H, units = tile.units;
  for (int64_t m = 0; m < tile.rows; ++m) {
    const Real* saved = tile.saved + m * tile.lds;
    const Vec<Real> z = load_if<kPart>(saved + H, units), n = load_if<kPart>(saved + 2 * H, units);
    const Vec<Real> h = load_if<kPart>(tile.h[m], units), dy = load_if<kPart>(tile.dy[m], units);
    const Vec<Real> whole = dy + (load(tile.carry + m * tile.ldc) + load(tile.dh + m * tile.ldd));
    const Vec<Real> dh = whole * (tile.zoneout[m] ? load_if<kPart>(tile.zoneout[m], units) : splat(tile.keep));
    const Vec<Real> u = dh * z;
    store(tile.carry + m * tile.ldc, u + (whole - dh));
    store_if<kPart>(tile.dgates + m * tile.ldg, (dh - u) * (Real(1) - n * n), units);
    store_if<kPart>(tile.dgates + m * tile.ldg + 2 * H, u * (Real(1) - z) * (h - n), units);
  }
}

template <class Real>
FASTGRU_INLINE void differentiate_candidate(const GradientTile<Real>& tile) noexcept {
  if (tile.units >= kLanes<Real>) return differentiate_candidate<Real, false>(tile);
  differentiate_candidate<Real, true>(tile);
}

// Form::before, second half, dh being W_hn^T dn: dr, and what goes to h through r * h.
template <class Real, bool kPart>
[[gnu::noinline]] void differentiate_reset(const GradientTile<Real>& tile) noexcept {
  for (int64_t m = 0; m < tile.rows; ++m) {
    const Vec<Real> r = load_if<kPart>(tile.saved + m * tile.lds, tile.units);
    Vec<Real> seen = load_if<kPart>(tile.h[m], tile.units), through = load(tile.dh + m * tile.ldd) * r;
    if (tile.recurrent[m]) {
      const Vec<Real> factors = load_if<kPart>(tile.recurrent[m], tile.units);
      seen *= factors;
      store(tile.carry + m * tile.ldc, load(tile.carry + m * tile.ldc) + through * factors);
    } else {
      store(tile.carry + m * tile.ldc, load(tile.carry + m * tile.ldc) + through);
    }
    store_if<kPart>(tile.dgates + m * tile.ldg + tile.H, through * seen * (Real(1) - r), tile.units);
  }
}

template <class Real>
FASTGRU_INLINE void differentiate_reset(const GradientTile<Real>& tile) noexcept {
  if (tile.units >= kLanes<Real>) return differentiate_reset<Real, false>(tile);
  differentiate_reset<Real, true>(tile);
}

}  // namespace
}  // namespace fastgru
