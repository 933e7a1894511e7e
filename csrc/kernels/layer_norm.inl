// Layer norm of a row of 3H pre-activations, without a bias: v = (a - mean) / sqrt(variance + kNormEpsilon).
// Ba et al. 2016, arXiv:1607.06450, eq. 4; the variance is that of the 3H numbers, as torch has it.
#pragma once

#include <cmath>

#include "gru.h"
#include "range.inl"

namespace fastgru {
namespace {

template <class Real>
alignas(64) constexpr Real kOnes[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

template <class Real>
FASTGRU_INLINE Real sum_of(Vec<Real> v) noexcept {
  Real sum = 0;
  for (int64_t i = 0; i < kLanes<Real>; ++i) sum += v[i];
  return sum;
}

// A row in unit blocks of [3][kLanes], `pitch` apart, becomes gain * v + bias, which are blocks one after the other.
// saved [3H]: v, and `inverse`: 1 / sqrt(variance + kNormEpsilon), or null both. Units beyond H are zero on entry.
template <class Real>
[[gnu::noinline]] void normalise(Real* row, int64_t pitch, const Real* gain, const Real* bias, int64_t H, Real* saved,
                                 Real* inverse) noexcept {
  constexpr int64_t W = kLanes<Real>;
  static_assert(W <= 16);
  const int64_t blocks = divide_up(H, W);
  Vec<Real> sums[3] = {};
  for (int64_t j = 0; j < blocks; ++j) {
    for (int64_t gate = 0; gate < 3; ++gate) sums[gate] += load(row + j * pitch + gate * W);
  }
  const Real count = static_cast<Real>(3 * H), mean = sum_of<Real>(sums[0] + sums[1] + sums[2]) / count;
  Vec<Real> squares[3] = {};
  for (int64_t j = 0; j < blocks; ++j) {
    const Vec<Real> exists = (j + 1) * W <= H ? load(kOnes<Real>) : load_lanes(kOnes<Real>, H - j * W);
    for (int64_t gate = 0; gate < 3; ++gate) {
      const Vec<Real> off = (load(row + j * pitch + gate * W) - mean) * exists;
      squares[gate] += off * off;
    }
  }
  const Real variance = sum_of<Real>(squares[0] + squares[1] + squares[2]) / count;
  const Real scale = Real(1) / std::sqrt(variance + static_cast<Real>(kNormEpsilon));
  if (inverse) *inverse = scale;
  for (int64_t j = 0; j < blocks; ++j) {
    for (int64_t gate = 0; gate < 3; ++gate) {
      Real* at = row + j * pitch + gate * W;
      const int64_t column = (j * 3 + gate) * W, left = H - j * W;
      const Vec<Real> v = (load(at) - mean) * scale;
      store(at, v * load(gain + column) + load(bias + column));
      if (saved && left >= W) {
        store(saved + gate * H + j * W, v);
      } else if (saved) {
        store_lanes(saved + gate * H + j * W, v, left);
      }
    }
  }
}

// The gradient of a row [3H] from those of gain * v + bias, each gate's H numbers where `from` and `to` say:
// with e = gain * from, to = inverse * (e - mean(e) - v * mean(e * v)).
template <class Real>
[[gnu::noinline]] void differentiate_norm(const Real* const (&from)[3], const Real* v, const Real* gain, Real inverse,
                                          int64_t H, Real* const (&to)[3]) noexcept {
  constexpr int64_t W = kLanes<Real>;
  const auto lanes = [&](const Real* at, int64_t i) __attribute__((always_inline)) {
    return H - i >= W ? load(at + i) : load_lanes(at + i, H - i);
  };
  Vec<Real> sums[3] = {}, products[3] = {};
  for (int64_t gate = 0; gate < 3; ++gate) {
    for (int64_t i = 0; i < H; i += W) {
      const Vec<Real> e = lanes(from[gate], i) * lanes(gain + gate * H, i);
      sums[gate] += e;
      products[gate] += e * lanes(v + gate * H, i);
    }
  }
  const Real count = static_cast<Real>(3 * H), mean = sum_of<Real>(sums[0] + sums[1] + sums[2]) / count;
  const Real slope = sum_of<Real>(products[0] + products[1] + products[2]) / count;
  for (int64_t gate = 0; gate < 3; ++gate) {
    for (int64_t i = 0; i < H; i += W) {
      const Vec<Real> e = lanes(from[gate], i) * lanes(gain + gate * H, i);
      const Vec<Real> d = inverse * (e - mean - lanes(v + gate * H, i) * slope);
      if (H - i >= W) {
        store(to[gate] + i, d);
      } else {
        store_lanes(to[gate] + i, d, H - i);
      }
    }
  }
}

// The last six of a row of Form::normed's gradients (gate_gradients.inl) from its first four: through the norms of
// W_ih x and W_hh h. saved: as gru.h's saved_pitch has it.
template <class Real>
void differentiate_norms(Real* row, const Real* saved, const Parameters<const Real>& p, int64_t H) noexcept {
  Real *const n = row, *const r = row + H, *const z = row + 2 * H, *const q = row + 3 * H;
  differentiate_norm<Real>({r, z, n}, saved, p.g_ih, saved[6 * H], H, {row + 5 * H, row + 6 * H, row + 4 * H});
  differentiate_norm<Real>({r, z, q}, saved + 3 * H, p.g_hh, saved[6 * H + 1], H,
                           {row + 7 * H, row + 8 * H, row + 9 * H});
}

}  // namespace
}  // namespace fastgru
