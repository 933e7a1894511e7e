// How the work is shared out among a team's threads, and the memory among them.
#pragma once

#include "gemm.inl"
#include "layout.inl"
#include "threads.h"

namespace fastgru {
namespace {

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

// Hands out scratch piece by piece, in whole cache lines; without memory it only counts.
template <class Real>
class Pieces {
 public:
  explicit Pieces(Real* memory) noexcept : memory_(memory) {}

  Real* take(int64_t elements) noexcept {
    Real* piece = memory_ ? memory_ + taken_ : nullptr;
    taken_ += round_up(elements, 64 / static_cast<int64_t>(sizeof(Real)));
    return piece;
  }

  // A piece for each of a group's threads: this one's.
  Real* take_own(int64_t elements, const Group& group) noexcept {
    Real* own = nullptr;
    for (int64_t i = 0; i < group.size; ++i) {
      Real* piece = take(elements);
      if (i == group.index) own = piece;
    }
    return own;
  }

  int64_t taken() const noexcept { return taken_; }

 private:
  Real* memory_;
  int64_t taken_ = 0;
};

}  // namespace
}  // namespace fastgru
