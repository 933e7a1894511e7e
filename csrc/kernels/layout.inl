// Where a step's rows lie, and how the work is shared out. One word for each, for forward and backward.
#pragma once

#include "gemm.inl"
#include "gru.h"
#include "threads.h"

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

// What parts step t of sequence b from the step it follows on, in reverse t + 1: the bits of Resets, 0 for nothing.
template <class Real>
FASTGRU_INLINE uint8_t parted(const Resets<Real>& resets, const Steps& steps, bool reverse, int64_t t,
                              int64_t b) noexcept {
  const int64_t at = t + (reverse ? 1 : 0);
  return b < rows_at(steps, at) ? *row_of(resets.at, steps, at, b) : uint8_t{0};
}

// Whether the initial state stands between two steps that these bits part.
template <class Real>
constexpr bool is_fresh(const Resets<Real>&, uint8_t bits) noexcept {
  return (bits & ~Resets<Real>::kCut) != 0;
}

// The factors [H] of sequence b's h where it enters W_hh, or null: 1.
template <class Real>
FASTGRU_INLINE const Real* recurrent_of(const Noise<Real>& noise, const Steps& steps, int64_t d, int64_t b,
                                        int64_t H) noexcept {
  return noise.recurrent ? noise.recurrent + (d * steps.B + slot_of(steps, b)) * H : nullptr;
}

template <class Real>
constexpr bool is_noisy(const Noise<Real>& noise) noexcept {
  return noise.recurrent || noise.zoneout.data || noise.keep != Real(1);
}

// Part `index` of `count` nearly equal parts.
constexpr Range part_of(Range whole, int64_t index, int64_t count) noexcept {
  const int64_t n = whole.end - whole.begin;
  return {whole.begin + n * index / count, whole.begin + n * (index + 1) / count};
}

// A thread's sequences: number k of them is first + k * stride.
struct Share {
  int64_t first, stride, count;

  int64_t at(int64_t k) const noexcept { return first + k * stride; }
  // How many of them are among the first n of all.
  int64_t below(int64_t n) const noexcept {
    return n <= first ? 0 : n >= at(count) ? count : divide_up(n - first, stride);
  }
};

// Sequences that end at different steps lie the longest first: each thread then takes every so manyth.
inline Share share_of(const Steps& steps, Range whole, int64_t index, int64_t count) noexcept {
  if (!steps.rows) {
    const Range part = part_of(whole, index, count);
    return {part.begin, 1, part.size()};
  }
  return {whole.begin + index, count, whole.size() > index ? divide_up(whole.size() - index, count) : 0};
}

// A team's threads: one group for each direction where there are threads enough, otherwise one group that
// does one direction after the other. Inside a group the sequences are shared out (nothing to wait for),
// or, where there are too few of them, the units (a barrier each step).
struct Group {
  int64_t groups, size;  // size: threads in each group
  int64_t group, index;  // which group this thread is in, and its place there; idle where index >= size
  Range directions;      // what the group does
  Barrier* barrier;
};

inline Group group_of(const Team& team, int64_t D) noexcept {
  const int64_t groups = D == 2 && team.size >= 2 ? 2 : 1;
  const int64_t group = team.index % groups;
  return {groups,
          team.size / groups,
          group,
          team.index / groups,
          groups == 2 ? Range{group, group + 1} : Range{0, D},
          team.group[group]};
}

inline void wait_for(const Group& group) noexcept {
  if (group.size > 1) wait_at(*group.barrier, static_cast<int32_t>(group.size));
}

// Weights up to this lie in L1, where a tile of few rows is nearly as fast as a full one.
constexpr int64_t kWeightBytesInL1 = 1 << 16;

// True where a group of `threads` shares out units and not sequences. A barrier takes 150 to 300 ns on idle
// cores, a step of one sequence at H = 64 takes 400 on one of them: below, units are never shared out.
template <class Real, class Args>
bool splits_units(const Args& a, int64_t threads, int64_t tile) noexcept {
  const int64_t T = a.steps.T, H = a.H;
  const int64_t B = T ? (a.steps.saved_rows() + T - 1) / T : 0;  // on the mean: where lengths differ, few are left late
  // Other forms have a step in two halves, the second of which needs all units of the first.
  if (a.form != Form::after) return false;
  const int64_t weight_bytes = 3 * H * H * static_cast<int64_t>(sizeof(Real));
  if (threads == 1 || H < 64) return false;
  // Beyond L2, half the weights each is better than all of them for half the sequences.
  if (weight_bytes > kWeightBytesPerCore) return true;
  return B < threads * tile && (B < 2 * threads || weight_bytes > kWeightBytesInL1);
}

// Sequences a thread carries through all steps at once, so that their state stays in its cache.
constexpr int64_t kBatchBlock = 128;

}  // namespace
}  // namespace fastgru
