// gx = W_ih x + biases, of a few steps at a time.
#pragma once

#include "forward_states.inl"
#include "layer_norm.inl"
#include "packing.inl"

namespace fastgru {
namespace {

// Rows of x projected at once: enough to read W_ih seldom, few enough that the result stays in L2.
constexpr int64_t kProjectedRows = 256;

template <class Real, Form kForm, class Weights>
class InputProjection {
 public:
  InputProjection(const ForwardPart<Real>& part, const Weights& packed, Real* memory) noexcept
      : p_(part),
        packed_(packed),
        rows_(rows_at_once(part.rows.count)),
        pitch_(x_pitch(part.a.I)),
        gx_(memory),
        x_(gx_ + rows_ * part.blocks.size() * kRow),
        encoded_(x_ + rows_ * pitch_) {}

  static int64_t elements(int64_t I, int64_t rows, int64_t blocks) noexcept {
    const int64_t most = rows_at_once(rows);
    return most * (blocks * kRow + x_pitch(I)) + Weights::encoded_elements(most, I);
  }

  // Of the steps from s on, as many as fit; returns the step after the last.
  int64_t project(int64_t s) noexcept {
    const int64_t begin = s;
    int64_t rows = 0;
    for (; s < p_.a.steps.T && rows + p_.active(p_.forward_time(s)) <= rows_; ++s) rows = copy_x(s, rows);
    const auto to = [&](int64_t block, int64_t row, int64_t) {
      return Products<Real>{at(block - p_.blocks.begin, row), rows_ * kRow};
    };
    const auto x = packed_.encode(Rows<Real>{x_, pitch_, {0, rows}}, p_.a.I, encoded_);
    multiply_panels<Weights::kRows>(packed_.inputs(p_.blocks, kForm != Form::normed), x, to,
                                    [](int64_t, int64_t, int64_t, Real*) {});
    if constexpr (kForm == Form::normed) normalise_steps(begin, s);
    return s;
  }

  // [rows][3][kLanes] of block j of the thread's units, from `row` of what was projected last on.
  FASTGRU_INLINE Real* at(int64_t j, int64_t row) const noexcept { return gx_ + (j * rows_ + row) * kRow; }

 private:
  static constexpr int64_t W = kLanes<Real>, kRow = 3 * W;

  static int64_t rows_at_once(int64_t rows) noexcept { return max_of(kProjectedRows, rows); }
  static int64_t x_pitch(int64_t I) noexcept { return round_up(I, W) + W; }

  // Rows of x one after the other: tiles then run over the ends of steps, and strides of a power of two,
  // which would fall into few sets of the cache, are gone.
  int64_t copy_x(int64_t s, int64_t row) noexcept {
    const int64_t t = p_.forward_time(s), n = p_.active(t);
    for (int64_t b = 0; b < n; ++b) {
      const Real* from = row_of(p_.a.x, p_.a.steps, t, p_.rows.at(b));
      for (int64_t i = 0; i < p_.a.I; i += W) copy_padded(x_ + (row + b) * pitch_ + i, from + i, p_.a.I - i);
    }
    return row + n;
  }

  // Steps [s, end).
  void normalise_steps(int64_t s, int64_t end) noexcept {
    const int64_t H = p_.a.H;
    for (int64_t row = 0; s < end; ++s) {
      const int64_t t = p_.forward_time(s), n = p_.active(t);
      for (int64_t b = 0; b < n; ++b, ++row) {
        Real* saved = p_.a.saved ? p_.saved_of(kForm, t, p_.rows.at(b)) : nullptr;
        normalise(at(0, row), rows_ * kRow, packed_.g_ih, packed_.b_ih, H, saved, saved ? saved + 6 * H : nullptr);
      }
    }
  }

  const ForwardPart<Real>& p_;
  const Weights& packed_;
  const int64_t rows_, pitch_;
  Real *gx_, *x_;  // [blocks][rows_][3][kLanes]; [rows_], pitch_ apart
  Real* encoded_;  // x as the weights are multiplied with it
};

}  // namespace
}  // namespace fastgru
