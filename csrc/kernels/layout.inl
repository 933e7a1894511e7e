// Where a call finds what belongs to a step of a sequence. One word for each, for forward and backward.
#pragma once

#include "gru.h"
#include "range.inl"

namespace fastgru {
namespace {

FASTGRU_INLINE int64_t rows_at(const Steps& steps, int64_t t) noexcept {
  if (t < 0 || t >= steps.T) return 0;
  return steps.rows ? steps.rows[t] : steps.B;
}

// Where sequence b lies in h0 and h_n.
FASTGRU_INLINE int64_t slot_of(const Steps& steps, int64_t b) noexcept { return steps.order ? steps.order[b] : b; }

// Row of (t, 0) in `saved`; (t, b) is b rows further.
FASTGRU_INLINE int64_t saved_row(const Steps& steps, int64_t t) noexcept {
  return steps.first ? steps.first[t] : t * steps.B;
}

template <class Real>
FASTGRU_INLINE Real* row_of(const Series<Real>& series, const Steps& steps, int64_t t, int64_t b) noexcept {
  const int64_t step = steps.time ? steps.time[t] : t, sequence = steps.batch ? steps.batch[b] : b;
  return series.data + step * series.time + sequence * series.batch;
}

// Whether the initial state stands between two steps that these bits of Resets part.
template <class Real>
constexpr bool is_fresh(uint8_t bits) noexcept {
  return (bits & ~Resets<Real>::kCut) != 0;
}

template <class Real>
constexpr bool is_noisy(const Noise<Real>& noise) noexcept {
  return noise.recurrent || noise.zoneout.data || noise.keep != Real(1);
}

// One direction of a call.
template <class Args>
struct Direction {
  const Args& a;
  int64_t d;
  bool reverse;  // from the last step to the first

  Direction(const Args& args, int64_t direction) noexcept
      : a(args), d(direction), reverse(direction == 1 || args.reverse) {}

  // The step that either pass comes to as its number s.
  FASTGRU_INLINE int64_t forward_time(int64_t s) const noexcept { return reverse ? a.steps.T - 1 - s : s; }
  FASTGRU_INLINE int64_t backward_time(int64_t s) const noexcept { return reverse ? s : a.steps.T - 1 - s; }

  // [H] of sequence b in h0 and all that is laid out like it.
  template <class Real>
  FASTGRU_INLINE Real* state_of(Real* states, int64_t b) const noexcept {
    return states + (d * a.steps.B + slot_of(a.steps, b)) * a.H;
  }

  // [H] of (t, b) in y and all that is laid out like it.
  template <class Real>
  FASTGRU_INLINE Real* output_of(const Series<Real>& outputs, int64_t t, int64_t b) const noexcept {
    return row_of(outputs, a.steps, t, b) + d * a.H;
  }

  // [saved_pitch(form, H)]. `form` is a.form; a constant where the caller has it as one.
  FASTGRU_INLINE auto* saved_of(Form form, int64_t t, int64_t b) const noexcept {
    return a.saved + (d * a.steps.saved_rows() + saved_row(a.steps, t) + b) * saved_pitch(form, a.H);
  }

  // The factors [H] of sequence b's h where it enters W_hh, or null: 1.
  FASTGRU_INLINE auto* recurrent_of(int64_t b) const noexcept {
    return a.noise.recurrent ? state_of(a.noise.recurrent, b) : nullptr;
  }

  // m [H] of zoneout, or null: a.noise.keep.
  FASTGRU_INLINE auto* zoneout_of(int64_t t, int64_t b) const noexcept {
    return a.noise.zoneout.data ? output_of(a.noise.zoneout, t, b) : nullptr;
  }

  // What parts step t of sequence b from the step it follows on, in reverse t + 1: the bits of Resets, 0 for nothing.
  FASTGRU_INLINE uint8_t parted(int64_t t, int64_t b) const noexcept {
    const int64_t at = t + (reverse ? 1 : 0);
    return b < rows_at(a.steps, at) ? *row_of(a.resets.at, a.steps, at, b) : uint8_t{0};
  }
};

}  // namespace
}  // namespace fastgru
