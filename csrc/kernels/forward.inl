// The forward pass of one layer: its entry points, and how its threads share out memory and work.
#pragma once

#include "forward_worker.inl"
#include "packed_weights.inl"
#include "step.inl"

namespace fastgru {
namespace {

// A group's part of scratch.
template <class Real, class Weights>
struct ForwardWorkspace {
  Real *packed, *state, *own;
  uint64_t* parts;  // for packed_weights
  int64_t elements;

  ForwardWorkspace(const ForwardArgs<Real>& a, const Group& group, Real* memory) noexcept {
    constexpr int64_t kPart = sizeof(uint64_t) / sizeof(Real);
    Pieces<Real> pieces(memory);
    packed = pieces.take(a.trusted ? 0 : Weights::elements(a.I, a.H));
    parts = reinterpret_cast<uint64_t*>(pieces.take(2 * group.size * kPart));
    state = pieces.take(states_of(a) * group.size * kBatchBlock * state_pitch<Real>(a.H));
    own = pieces.take_own(own_elements(a), group);
    elements = pieces.taken();
  }

  static int64_t own_elements(const ForwardArgs<Real>& a) noexcept {
    const int64_t blocks = Packed<Real>::blocks(a.H);
    return a.form == Form::normed
               ? ForwardWorker<Real, Form::normed, true, true, Weights>::own_elements(a.I, kBatchBlock, blocks)
               : ForwardWorker<Real, Form::after, false, false, Weights>::own_elements(a.I, kBatchBlock, blocks);
  }
};

template <class Real, Form kForm, bool kSave, bool kNoise, class Weights>
void run_worker(const ForwardPart<Real>& part, const Weights& packed, const Group& group, bool units, Real* state,
                Real* own) noexcept {
  ForwardWorker<Real, kForm, kSave, kNoise, Weights>(part, packed, group, units, state, own).run();
}

template <class Weights, class Real>
auto worker_for(const ForwardArgs<Real>& a) noexcept {
  if (a.form == Form::before) return &run_worker<Real, Form::before, true, true, Weights>;
  if (a.form == Form::normed) return &run_worker<Real, Form::normed, true, true, Weights>;
  if constexpr (Weights::kTrained) {
    if (a.saved) {
      return is_noisy(a.noise) ? &run_worker<Real, Form::after, true, true, Weights>
                               : &run_worker<Real, Form::after, true, false, Weights>;
    }
  }
  return is_noisy(a.noise) ? &run_worker<Real, Form::after, false, true, Weights>
                           : &run_worker<Real, Form::after, false, false, Weights>;
}

template <class Real, class Weights>
void forward_direction(const ForwardArgs<Real>& a, const Weights& packed, const Group& group, int64_t d,
                       const ForwardWorkspace<Real, Weights>& work) noexcept {
  const bool units = splits_units<Real>(a, group.size, kForwardRows);
  const int64_t rows_at_once = units ? kBatchBlock : kBatchBlock * group.size;
  const Range all_blocks{0, Packed<Real>::blocks(a.H)};
  const Range blocks = units ? part_of(all_blocks, group.index, group.size) : all_blocks;
  // A place of its own for each thread: one may be a block ahead of another.
  const int64_t own_state = states_of(a) * kBatchBlock * state_pitch<Real>(a.H);
  Real* state = units ? work.state : work.state + group.index * own_state;
  for (int64_t begin = 0; begin < a.steps.B; begin += rows_at_once) {
    const Range whole{begin, min_of(a.steps.B, begin + rows_at_once)};
    const Share rows = share_of(a.steps, whole, units ? 0 : group.index, units ? 1 : group.size);
    worker_for<Weights>(a)(ForwardPart<Real>(a, d, rows, blocks), packed, group, units, state, work.own);
  }
}

template <class Real, class Weights>
int64_t directions_scratch(const ForwardArgs<Real>& a, int32_t threads) noexcept {
  const Group group = group_of(Team{0, threads, nullptr, {nullptr, nullptr}}, a.D);
  return group.groups * ForwardWorkspace<Real, Weights>(a, group, nullptr).elements;
}

// weights_of(group, direction, its part of scratch): the weights, packed.
template <class Weights, class Real, class WeightsOf>
void forward_directions(const ForwardArgs<Real>& a, Real* scratch, const Team& team, WeightsOf weights_of) noexcept {
  const Group group = group_of(team, a.D);
  if (group.index >= group.size) return;
  const int64_t elements = ForwardWorkspace<Real, Weights>(a, group, nullptr).elements;
  const ForwardWorkspace<Real, Weights> work(a, group, scratch + group.group * elements);
  for (int64_t d = group.directions.begin; d < group.directions.end; ++d) {
    forward_direction(a, weights_of(group, d, work), group, d, work);
  }
}

template <class Real>
int64_t forward_scratch(const ForwardArgs<Real>& a, int32_t threads) noexcept {
  if constexpr (kTrains) {
    if (is_single_step(a)) return threads * step_scratch(a, threads);
  }
  return directions_scratch<Real, Packed<Real>>(a, threads);
}

template <class Real>
void forward(const ForwardArgs<Real>& a, Real* scratch, const Team& team) noexcept {
  if constexpr (kTrains) {
    if (is_single_step(a)) return single_step(a, scratch, team);
  }
  using Workspace = ForwardWorkspace<Real, Packed<Real>>;
  const auto weights_of = [&](const Group& group, int64_t d, const Workspace& work) {
    return packed_weights<Packed<Real>>(a, group, d, work.packed, work.parts);
  };
  forward_directions<Packed<Real>>(a, scratch, team, weights_of);
}

// Packing takes as long as some 25 rows. Beyond 2048 rows it is not worth the memory, or a look at the cache. What
// would not fit into it would only drive others out.
template <class Real>
bool reuses_packed(const ForwardArgs<Real>& a) noexcept {
  const int64_t bytes = a.D * Packed<Real>::elements(a.I, a.H) * static_cast<int64_t>(sizeof(Real));
  return !a.saved && !a.trusted && !is_single_step(a) && a.steps.T * a.steps.B < 2048 && bytes <= kKeptPackedBytes;
}

// How many threads can be kept busy: those of a group share out sequences, unless there is enough work in the
// units. Below 400,000 products, some 5 us, a second thread costs more than it does.
template <class Real>
int32_t forward_threads(const ForwardArgs<Real>& a, int32_t available) noexcept {
  const int64_t rows = a.steps.T * a.steps.B, work = rows * a.D * 3 * a.H * (a.I + a.H);
  if (is_single_step(a)) return step_threads(a, available);
  if (work < 400000) return 1;
  const int64_t useful = a.H < 64 ? a.D * a.steps.B : available;
  return static_cast<int32_t>(min_of(available, useful));
}

}  // namespace
}  // namespace fastgru
