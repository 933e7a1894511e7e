// What the backward pass multiplies, and how: weights with rows of gate gradients, and these with rows of x and h.
#pragma once

#include "outer_product.inl"

namespace fastgru {
namespace {

// In Real, all of it as it lies.
template <class Number>
struct RealOperands {
  using Real = Number;
  static constexpr int64_t W2 = 2 * kLanes<Real>;
  static constexpr int64_t kTerms = 1;  // of a sum that lie side by side; memory is taken for whole groups of them

  // Panels [N / W2][3H][W2] of w [3H, N], its rows from first_row on.
  static void pack(const Real* w, int64_t H, int64_t N, int64_t first_row, Range panels, Real* to) noexcept {
    pack_columns(w, H, N, first_row, panels, to);
  }
  // Of such panels the K terms from `first` on, a whole number of groups.
  static Panels<Real, 2> panels(const Real* packed, Range own, int64_t H, int64_t first, int64_t K) noexcept {
    return {packed + first * W2, own, K, 3 * H * W2, nullptr};
  }

  // Rows of K numbers as they are multiplied with panels; `range` begins at 0.
  static int64_t encoded_elements(int64_t, int64_t) noexcept { return 0; }
  static Rows<Real> encode(const Rows<Real>& rows, int64_t, Real*) noexcept { return rows; }

  // A chunk's row of x or h is written at row_at, its panels row_pitch apart, and then finished: the rows of a group
  // may be held until all are there. held: [panels][kTerms][W2].
  static int64_t row_pitch(int64_t chunk) noexcept { return chunk * W2; }
  static Real* row_at(Real* panels, Real*, int64_t row) noexcept { return panels + row * W2; }
  static void finish_row(Real*, Real*, int64_t, int64_t, int64_t, bool) noexcept {}

  // Columns of rows, and what they are multiplied with, as add_outer_product has them.
  static void pack_units(const Real* from, int64_t pitch, int64_t rows, int64_t units, int64_t room,
                         Real* to) noexcept {
    ::fastgru::pack_units(from, pitch, rows, units, room, to);
  }
  static void multiply_outer(const Real* a, const Real* panel, int64_t K, Real* c, const Real* out,
                             int64_t ldo) noexcept {
    outer_tile<Real, kOuterRows>(a, panel, K, c, out, ldo);
  }
};

}  // namespace
}  // namespace fastgru
