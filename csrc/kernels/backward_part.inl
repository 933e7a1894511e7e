// A thread's part of one direction of the backward pass, and the chunks of steps it goes in.
#pragma once

#include "backward_workspace.inl"
#include "panels.inl"

namespace fastgru {
namespace {

// Steps [begin, end) in the order they are worked on, of the batch's sequences: `rows` rows.
struct Chunk {
  int64_t begin, end, rows;
  int buffer;
};

template <class Real>
class BackwardPart : public Direction<BackwardArgs<Real>> {
 public:
  static constexpr int64_t W = kLanes<Real>, W2 = 2 * W;
  const BackwardWorkspace<Real>& work;
  const Group& group;
  const Parameters<const Real>& parameters;
  const Parameters<Real>& gradients;
  const bool units_split;  // the group shares out units: each thread has some of all sequences'
  const bool pipelined;    // one thread does the steps of a single sequence, the others all else
  const Range blocks;      // of kLanes units, for the weights' gradients
  Range batch{0, 0};       // sequences that the group is at
  Share rows{0, 1, 0};     // of them, the thread's
  Range panels{0, 0};      // of the state, the thread's

  BackwardPart(const BackwardArgs<Real>& args, const BackwardWorkspace<Real>& workspace, const Group& its_group,
               int64_t direction) noexcept
      : Direction<BackwardArgs<Real>>(args, direction),
        work(workspace),
        group(its_group),
        parameters(args.parameters[direction]),
        gradients(args.gradients[direction]),
        units_split(splits_units<Real>(args, its_group.size, kBackwardRows)),
        pipelined(its_group.size > 1 && !units_split && args.steps.B == 1),
        blocks(own_part({0, divide_up(args.H, W)})) {}

  void take_batch(Range sequences) noexcept {
    batch = sequences;
    const int64_t index = group.index, size = group.size;
    rows = share_of(this->a.steps, {0, batch.size()}, units_split ? 0 : index, units_split ? 1 : size);
    panels = part_of({0, work.h_panels}, units_split ? index : 0, units_split ? size : 1);
  }

  // The thread's part of work on a whole chunk. A single sequence's steps are one thread's, the last one's;
  // it does nothing else, and the others work on one chunk while it is at the next.
  Range own_part(Range whole) const noexcept {
    if (!pipelined) return part_of(whole, group.index, group.size);
    if (group.index == group.size - 1) return {whole.end, whole.end};
    return part_of(whole, group.index, group.size - 1);
  }

  int64_t time(int64_t s) const noexcept { return this->backward_time(s); }

  // Of the batch's sequences, those that have step t; those that have step number s.
  int64_t rows_of(int64_t t) const noexcept {
    return min_of(max_of(rows_at(this->a.steps, t) - batch.begin, 0), batch.size());
  }
  int64_t active(int64_t s) const noexcept { return rows_of(time(s)); }

  // Which of all sequences number b of this thread's is.
  int64_t sequence(int64_t b) const noexcept { return batch.begin + rows.at(b); }

  // [H]: h that entered step t of a sequence, or null where it was zero.
  const Real* state_before(int64_t t, int64_t b) const noexcept {
    const BackwardArgs<Real>& a = this->a;
    if (a.resets.at.data && is_fresh<Real>(this->parted(t, b))) {
      return a.resets.initial ? a.resets.initial + this->d * a.H : nullptr;
    }
    const int64_t before = this->reverse ? t + 1 : t - 1;
    if (b < rows_at(a.steps, before)) return this->output_of(a.y, before, b);
    return a.h0 ? this->state_of(a.h0, b) : nullptr;
  }

  // Units of the state that are in a panel.
  Range units_of(int64_t panel) const noexcept { return {panel * W2, min_of(this->a.H, panel * W2 + W2)}; }

  // Multiplies a row of a panel with the factors of the h that entered W_hh.
  void mask(int64_t panel, int64_t b, Real* row) const noexcept {
    const Real* recurrent = this->recurrent_of(b);
    const Range units = units_of(panel);
    for (int64_t unit = units.begin; unit < units.end; unit += W, row += W) {
      store(row, load(row) * load_lanes(recurrent + unit, min_of(W, units.end - unit)));
    }
  }
};

// Goes along the rows of a chunk, from one of them on.
template <class Real>
class Walk {
 public:
  FASTGRU_INLINE Walk(const BackwardPart<Real>& part, const Chunk& chunk, int64_t row) noexcept
      : p_(&part), s_(chunk.begin), end_(chunk.end), b_(row) {
    settle();
  }

  int64_t time() const noexcept { return t_; }
  int64_t sequence() const noexcept { return p_->batch.begin + b_; }
  FASTGRU_INLINE void next() noexcept {
    if (++b_ == rows_) settle();
  }

 private:
  FASTGRU_INLINE void settle() noexcept {
    for (; s_ < end_; ++s_, b_ -= rows_) {
      t_ = p_->time(s_);
      rows_ = p_->rows_of(t_);
      if (b_ < rows_) return;
    }
  }

  const BackwardPart<Real>* p_;
  int64_t s_, end_, b_, t_ = 0, rows_ = 0;
};

// Calls f(row in the chunk, t, sequence) for some of the chunk's rows.
template <class Real, class F>
FASTGRU_INLINE void for_rows(const BackwardPart<Real>& part, const Chunk& chunk, Range rows, F f) noexcept {
  Walk<Real> at(part, chunk, rows.begin);
  for (int64_t row = rows.begin; row < rows.end; ++row, at.next()) f(row, at.time(), at.sequence());
}

}  // namespace
}  // namespace fastgru
