// A chunk's x and h as the panels that the weights' gradients are products with.
#pragma once

#include "backward_part.inl"

namespace fastgru {
namespace {

template <class Operands, Form kForm>
class ChunkPanels {
  using Real = typename Operands::Real;

 public:
  explicit ChunkPanels(const BackwardPart<Real>& part) noexcept
      : p_(part), pitch_(Operands::row_pitch(part.work.chunk)) {}

  // The thread's part of the chunk's rows.
  void pack(const Chunk& chunk) noexcept {
    const ChunkBuffers<Real>& to = p_.work.buffers[chunk.buffer];
    const BackwardWorkspace<Real>& work = p_.work;
    const Range groups = p_.own_part({0, divide_up(chunk.rows, Operands::kTerms)});
    const Range own{groups.begin * Operands::kTerms, min_of(groups.end * Operands::kTerms, chunk.rows)};
    const auto finish = [&](Real* panels, Real* held, int64_t count, int64_t row) {
      Operands::finish_row(panels, held, count, work.chunk, row, row + 1 == chunk.rows);
    };
    if (p_.gradients.w_ih) {
      for_rows(p_, chunk, own, [&](int64_t row, int64_t t, int64_t b) {
        Real* x = Operands::row_at(to.x, work.held, row);
        copy_to_panels(row_of(p_.a.x, p_.a.steps, t, b), p_.a.I, pitch_, x);
        finish(to.x, work.held, work.x_panels, row);
      });
    }
    if (!p_.gradients.w_hh) return;
    Real* reset_held = work.held + Operands::kTerms * work.h_panels * W2;
    for_rows(p_, chunk, own, [&](int64_t row, int64_t t, int64_t b) {
      Real* h = Operands::row_at(to.h, work.held, row);
      pack_state(t, b, h);
      if constexpr (kForm == Form::before) {
        pack_reset(p_.saved_of(kForm, t, b), h, Operands::row_at(to.reset, reset_held, row));
        finish(to.reset, reset_held, work.h_panels, row);
      }
      finish(to.h, work.held, work.h_panels, row);
    });
  }

 private:
  static constexpr int64_t W = kLanes<Real>, W2 = 2 * W;

  // h as it entered W_hh.
  FASTGRU_INLINE void pack_state(int64_t t, int64_t b, Real* to) noexcept {
    const Real* h = p_.state_before(t, b);
    const int64_t panels = p_.work.h_panels, pitch = pitch_;
    if (h) {
      copy_to_panels(h, p_.a.H, pitch, to);
      for (int64_t panel = 0; p_.a.noise.recurrent && panel < panels; ++panel) p_.mask(panel, b, to + panel * pitch);
    } else {
      for (int64_t panel = 0; panel < panels; ++panel) {
        store(to + panel * pitch, Vec<Real>{});
        store(to + panel * pitch + W, Vec<Real>{});
      }
    }
  }

  // A row of h's panels times r.
  void pack_reset(const Real* r, const Real* h, Real* to) const noexcept {
    for (int64_t panel = 0; panel < p_.work.h_panels; ++panel) {
      for (int64_t i = 0; i < W2; i += W) {
        const int64_t left = p_.a.H - panel * W2 - i;
        const Real* from = r + panel * W2 + i;
        const Vec<Real> factors = left >= W ? load(from) : load_lanes(from, max_of(left, 0));
        store(to + panel * pitch_ + i, load(h + panel * pitch_ + i) * factors);
      }
    }
  }

  const BackwardPart<Real>& p_;
  const int64_t pitch_;  // from panel to panel
};

}  // namespace
}  // namespace fastgru
