// Matrices as panels of 2 * kLanes columns, which the backward pass multiplies with.
#pragma once

#include "gemm.inl"

namespace fastgru {
namespace {

// A row of `columns` numbers, one piece to each panel; the panels are `panel_pitch` apart.
template <class Real>
FASTGRU_INLINE void copy_to_panels(const Real* from, int64_t columns, int64_t panel_pitch, Real* to) noexcept {
  constexpr int64_t W = kLanes<Real>;
  for (int64_t c = 0; c * 2 * W < columns; ++c) {
    const int64_t left = columns - c * 2 * W;
    copy_padded(to + c * panel_pitch, from + c * 2 * W, left);
    if (left > W) {
      copy_padded(to + c * panel_pitch + W, from + c * 2 * W + W, left - W);
    } else {
      store(to + c * panel_pitch + W, Vec<Real>{});
    }
  }
}

// w [3H, N] as panels [N / 2 kLanes][3H][2 kLanes], its rows taken from first_row on, round to it again.
template <class Real>
void pack_columns(const Real* w, int64_t H, int64_t N, int64_t first_row, Range panels, Real* to) noexcept {
  constexpr int64_t W2 = 2 * kLanes<Real>;
  for (int64_t k = 0; k < 3 * H; ++k) {
    const int64_t row = first_row + k < 3 * H ? first_row + k : first_row + k - 3 * H;
    copy_to_panels(w + row * N + panels.begin * W2, min_of(panels.end * W2, N) - panels.begin * W2, 3 * H * W2,
                   to + (panels.begin * 3 * H + k) * W2);
  }
}

// A panel's row, or what of it is among `columns`, written to `to` or added to it.
template <class Real>
FASTGRU_INLINE void write_row(Real* to, const Real* c, int64_t columns, bool adds) noexcept {
  constexpr int64_t W = kLanes<Real>;
  for (int64_t i = 0; i < min_of(columns, 2 * W); i += W) {
    const Vec<Real> v = load(c + i);
    if (columns - i >= W) {
      store(to + i, adds ? load(to + i) + v : v);
    } else {
      store_lanes(to + i, adds ? load_lanes(to + i, columns - i) + v : v, columns - i);
    }
  }
}

}  // namespace
}  // namespace fastgru
