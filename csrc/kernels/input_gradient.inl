// dx = W_ih^T (dr, dz, dn).
#pragma once

#include "backward_part.inl"

namespace fastgru {
namespace {

template <class Operands, Form kForm>
class InputGradient {
  using Real = typename Operands::Real;

 public:
  explicit InputGradient(const BackwardPart<Real>& part) noexcept : p_(part) {}

  // The thread's part of the chunk's rows, written or added to what the other direction wrote. As many rows at once as
  // stay in L2 while all panels of W_ih go over them.
  void write(const Chunk& chunk, bool adds) noexcept {
    const Range own = p_.own_part({0, chunk.rows});
    const int64_t most = rows_in_l2<Real>(3 * p_.a.H);
    for (int64_t begin = own.begin; begin < own.end; begin += most) {
      write_rows(chunk, {begin, min_of(begin + most, own.end)}, adds);
    }
  }

 private:
  static constexpr int64_t W2 = 2 * kLanes<Real>;

  void write_rows(const Chunk& chunk, Range rows, bool adds) noexcept {
    const BackwardWorkspace<Real>& work = p_.work;
    const int64_t H = p_.a.H;
    const Real* dgates = work.buffers[chunk.buffer].dgates + rows.begin * work.ldg + of_input(kForm) * H;
    const Walk<Real> begin(p_, chunk, rows.begin);
    Walk<Real> first = begin, at = begin;  // of a tile, which comes once for each of its panels
    int64_t last = 0;
    alignas(64) Real products[kAccumulators * kLanes<Real>];
    multiply_panels<kBackwardRows>(
        Operands::panels(work.w_ih, {0, work.x_panels}, H, 0, 3 * H),
        Operands::encode(Rows<Real>{dgates, work.ldg, {0, rows.size()}}, 3 * H, work.encoded),
        [&](int64_t, int64_t, int64_t m) { return Products<Real>{products, m * W2}; },
        [&](int64_t panel, int64_t row, int64_t m, const Real* c) {
          if (row != last) first = row == 0 ? begin : at;
          last = row;
          at = first;
          for (int64_t i = 0; i < m; ++i, at.next()) {
            Real* dx = row_of(p_.a.dx, p_.a.steps, at.time(), at.sequence()) + panel * W2;
            write_row(dx, c + i * W2, p_.a.I - panel * W2, adds);
          }
        });
  }

  const BackwardPart<Real>& p_;
};

}  // namespace
}  // namespace fastgru
