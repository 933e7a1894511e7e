// The states of a thread's sequences, from step to step.
#pragma once

#include "team.inl"

namespace fastgru {
namespace {

// A thread's part of one direction: its sequences, and of their units some blocks of kLanes.
template <class Real>
struct ForwardPart : Direction<ForwardArgs<Real>> {
  Share rows;
  Range blocks;

  ForwardPart(const ForwardArgs<Real>& args, int64_t direction, Share its_rows, Range its_blocks) noexcept
      : Direction<ForwardArgs<Real>>(args, direction), rows(its_rows), blocks(its_blocks) {}

  // Of the sequences, those that have step t.
  int64_t active(int64_t t) const noexcept { return rows.below(rows_at(this->a.steps, t)); }

  // Block j of H numbers; what is beyond them is zero.
  Vec<Real> lanes(const Real* from, int64_t j) const noexcept {
    constexpr int64_t W = kLanes<Real>;
    return (j + 1) * W <= this->a.H ? load(from + j * W) : load_lanes(from + j * W, this->a.H - j * W);
  }
};

template <class Real>
constexpr int64_t state_pitch(int64_t H) noexcept {
  return round_up(H, kLanes<Real>) + kLanes<Real>;
}

// What a sequence has of states: this step's, the next one's, the carried one and, of Form::before, r * h.
template <class Real>
int64_t states_of(const ForwardArgs<Real>& a) noexcept {
  return a.form == Form::before ? 4 : a.form == Form::normed || is_noisy(a.noise) ? 3 : 2;
}

// Each is [rows] with `pitch` from one to the next; h and next change places after each step.
template <class Real, bool kNoise>
class ForwardStates {
 public:
  const int64_t pitch;
  Real *h, *next;  // as W_hh sees them
  Real* carried;   // with kNoise: the state itself
  Real* reset;     // of Form::before: r * h

  // memory: [states_of][rows][state_pitch]
  ForwardStates(const ForwardPart<Real>& part, Real* memory) noexcept
      : pitch(state_pitch<Real>(part.a.H)),
        h(memory),
        next(h + part.rows.count * pitch),
        carried(kNoise ? next + part.rows.count * pitch : nullptr),
        reset(part.a.form == Form::before ? carried + part.rows.count * pitch : nullptr),
        p_(part) {}

  // In both buffers: a sequence that begins late in the reverse direction is not copied from step to step.
  void begin() noexcept {
    for (int64_t b = 0; b < p_.rows.count; ++b) {
      const Real* h0 = p_.a.h0 ? p_.state_of(p_.a.h0, p_.rows.at(b)) : nullptr;
      for (int64_t j = p_.blocks.begin; j < p_.blocks.end; ++j) {
        const Vec<Real> seen = enter(b, j, h0 ? p_.lanes(h0, j) : Vec<Real>{});
        store(h + b * pitch + j * W, seen);
        store(next + b * pitch + j * W, seen);
      }
    }
    const int64_t t = p_.forward_time(0);
    write_last({p_.active(0), p_.rows.count});
    if (!p_.a.resets.at.data) return;
    for (int64_t j = p_.blocks.begin; j < p_.blocks.end; ++j) refresh(t, j, {0, p_.active(t)}, h);
  }

  // The initial state in a block of `next`, for those of m sequences from b on that start anew after step number s.
  FASTGRU_INLINE void refresh_after(int64_t s, int64_t block, int64_t b, int64_t m) noexcept {
    if (p_.a.resets.at.data && s + 1 < p_.a.steps.T) refresh(p_.forward_time(s + 1), block, {b, b + m}, next);
  }

  // After step t: h_n of sequences whose last step it was, forward those that the next step has not, reverse all at
  // step 0.
  void end_step(int64_t t) noexcept {
    if (!p_.reverse) {
      write_last({p_.active(t + 1), p_.active(t)});
    } else if (t == 0) {
      write_last({0, p_.active(0)});
    }
    Real* swap = h;
    h = next;
    next = swap;
  }

 private:
  static constexpr int64_t W = kLanes<Real>;

  // Carries h on, and returns what W_hh sees of it.
  Vec<Real> enter(int64_t b, int64_t block, Vec<Real> state) noexcept {
    if constexpr (!kNoise) return state;
    store(carried + b * pitch + block * W, state);
    const Real* recurrent = p_.recurrent_of(p_.rows.at(b));
    return recurrent ? state * p_.lanes(recurrent, block) : state;
  }

  void refresh(int64_t t, int64_t block, Range rows, Real* to) noexcept {
    for (int64_t b = rows.begin; b < rows.end; ++b) {
      if (!is_fresh<Real>(p_.parted(t, p_.rows.at(b)))) continue;
      const Real* initial = p_.a.resets.initial;
      const Vec<Real> state = initial ? p_.lanes(initial + p_.d * p_.a.H, block) : Vec<Real>{};
      store(to + b * pitch + block * W, enter(b, block, state));
    }
  }

  void write_last(Range rows) noexcept {
    const Real* last = kNoise ? carried : next;
    for (int64_t b = rows.begin; b < rows.end; ++b) {
      Real* h_n = p_.state_of(p_.a.h_n, p_.rows.at(b));
      for (int64_t j = p_.blocks.begin; j < p_.blocks.end; ++j) {
        const Vec<Real> v = load(last + b * pitch + j * W);
        if ((j + 1) * W <= p_.a.H) {
          store(h_n + j * W, v);
        } else {
          store_lanes(h_n + j * W, v, p_.a.H - j * W);
        }
      }
    }
  }

  const ForwardPart<Real>& p_;
};

}  // namespace
}  // namespace fastgru
