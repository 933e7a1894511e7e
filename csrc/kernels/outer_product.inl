// Sums over rows of products of each number of one row with each of another: what weights' gradients are.
#pragma once

#include "panels.inl"

namespace fastgru {
namespace {

// Units that a chunk's panels are multiplied with at once where the panels lie beyond L2.
constexpr int64_t kOuterUnits = 64;

// Of rows `pitch` apart some units, as [units / kOuterRows][rows][kOuterRows], `room` rows from one to the next.
template <class Real>
void pack_units(const Real* from, int64_t pitch, int64_t rows, int64_t units, int64_t room, Real* to) noexcept {
  for (int64_t unit = 0; unit < units; unit += kOuterRows) {
    const int64_t m = min_of(kOuterRows, units - unit);
    const Real* at = from + unit;
    Real* out = to + unit * room;
    for (int64_t k = 0; k < rows; ++k, at += pitch, out += kOuterRows) {
      if (m == kOuterRows) {
        __builtin_memcpy(out, at, sizeof(Real) * kOuterRows);
      } else {
        for (int64_t i = 0; i < kOuterRows; ++i) out[i] = i < m ? at[i] : Real(0);
      }
    }
  }
}

// out [units, columns] = or += sum over rows of packed units with panels of columns, whose rows have the same room. A
// panel is in L1 while all of the units go over it: it is read from beyond once for them together. Operands: as in
// operands.inl.
template <class Operands, class Real>
void add_outer_product(const Real* packed, const Real* panels, int64_t rows, int64_t room, int64_t units,
                       int64_t columns, Real* out, bool adds) noexcept {
  constexpr int64_t W2 = 2 * kLanes<Real>;
  alignas(64) Real c[kOuterRows * W2];
  for (int64_t column = 0; column < columns; column += W2) {
    for (int64_t unit = 0; unit < units; unit += kOuterRows) {
      Real* to = out + unit * columns + column;
      Operands::multiply_outer(packed + unit * room, panels + column * room, rows, c, to, columns);
      for (int64_t i = 0; i < min_of(kOuterRows, units - unit); ++i) {
        write_row(to + i * columns, c + i * W2, columns - column, adds);
      }
    }
  }
}

}  // namespace
}  // namespace fastgru
