// A chunk's x and h as the panels that the weights' gradients are products with.
#pragma once

#include "backward_part.inl"

namespace fastgru {
namespace {

template <class Real, Form kForm>
class ChunkPanels {
 public:
  explicit ChunkPanels(const BackwardPart<Real>& part) noexcept : p_(part), pitch_(part.work.chunk * W2) {}

  // The thread's part of the chunk's rows.
  void pack(const Chunk& chunk) noexcept {
    const ChunkBuffers<Real>& to = p_.work.buffers[chunk.buffer];
    for_rows(p_, chunk, p_.own_part({0, chunk.rows}), [&](int64_t row, int64_t t, int64_t b) {
      if (p_.gradients.w_ih) copy_to_panels(row_of(p_.a.x, p_.a.steps, t, b), p_.a.I, pitch_, to.x + row * W2);
      if (!p_.gradients.w_hh) return;
      pack_state(t, b, to.h + row * W2);
      if constexpr (kForm == Form::before) pack_reset(p_.saved_of(kForm, t, b), to.h + row * W2, to.reset + row * W2);
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
