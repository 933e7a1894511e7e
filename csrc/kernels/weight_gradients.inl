// dw_ih and dw_hh of the thread's units: products of gate gradients with panels of x and h, chunk by chunk.
#pragma once

#include "backward_part.inl"
#include "outer_product.inl"

namespace fastgru {
namespace {

template <class Operands, Form kForm>
class WeightGradients {
  using Real = typename Operands::Real;

 public:
  explicit WeightGradients(const BackwardPart<Real>& part) noexcept : p_(part) {}

  // gate: n r z q. The first chunk of all is written, the others are added to it.
  void add(const Chunk& chunk, int64_t gate) noexcept {
    const int64_t end = min_of(p_.blocks.end * W, p_.a.H), most = p_.work.units;
    for (int64_t unit = p_.blocks.begin * W; unit < end; unit += most) {
      add_units(chunk, gate, {unit, min_of(unit + most, end)});
    }
  }

 private:
  static constexpr int64_t W = kLanes<Real>;

  void add_units(const Chunk& chunk, int64_t gate, Range units) noexcept {
    const ChunkBuffers<Real>& from = p_.work.buffers[chunk.buffer];
    const int64_t I = p_.a.I, H = p_.a.H;
    // Row of the weights, in torch's order r z n: gate n (of x) and q (of h) are both the last.
    const int64_t row = (gate == 0 || gate == 3 ? 2 : gate - 1) * H + units.begin;
    if (gate < 3) pack_gradients(chunk, of_input(kForm) + gate, units);
    if (p_.gradients.w_ih && gate < 3) add_product(chunk, from.x, I, p_.gradients.w_ih + row * I, units.size());
    if (!p_.gradients.w_hh || gate == 0) return;
    const bool is_reset = kForm == Form::before && gate == 3;  // W_hn saw r * h, and n's gradient is its
    if (gate == 3 || kForm == Form::normed) {
      pack_gradients(chunk, is_reset ? 0 : of_recurrent(kForm) + gate - 1, units);
    }
    add_product(chunk, is_reset ? from.reset : from.h, H, p_.gradients.w_hh + row * H, units.size());
  }

  // Column `which` of H in dgates.
  void pack_gradients(const Chunk& chunk, int64_t which, Range units) noexcept {
    const Real* dgates = p_.work.buffers[chunk.buffer].dgates + which * p_.a.H + units.begin;
    Operands::pack_units(dgates, p_.work.ldg, chunk.rows, units.size(), p_.work.chunk, p_.work.own);
  }

  void add_product(const Chunk& chunk, const Real* panels, int64_t columns, Real* out, int64_t units) noexcept {
    const bool adds = p_.batch.begin > 0 || chunk.begin > 0;
    const int64_t groups = divide_up(chunk.rows, Operands::kTerms), room = p_.work.chunk / Operands::kTerms;
    add_outer_product<Operands>(p_.work.own, panels, groups, room, units, columns, out, adds);
  }

  const BackwardPart<Real>& p_;
};

}  // namespace
}  // namespace fastgru
