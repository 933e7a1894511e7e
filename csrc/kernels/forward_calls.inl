// The entry points of the forward pass.
#pragma once

#include "step.inl"

namespace fastgru {
namespace {

// Room for two numbers of 64 bits a thread.
template <class Real>
constexpr int64_t fingerprint_elements(int64_t threads) noexcept {
  return round_up(2 * threads * static_cast<int64_t>(sizeof(uint64_t) / sizeof(Real)), 16);
}

template <class Real>
int64_t forward_scratch(const ForwardArgs<Real>& a, int32_t threads) noexcept {
  if (is_single_step(a)) return StepScratch<Real>::elements(a.H);
  const Group group = group_of(Team{0, threads, nullptr, {nullptr, nullptr}}, a.D);
  return ForwardScratch<Real>(a, group.size).total(a.D, group.groups, group.size) +
         group.groups * fingerprint_elements<Real>(group.size);
}

template <class Real>
void forward(const ForwardArgs<Real>& a, Real* scratch, const Team& team) noexcept {
  if (is_single_step(a)) return single_step(a, scratch);
  const Group group = group_of(team, a.D);
  if (group.index >= group.size) return;
  const ForwardScratch<Real> sizes(a, group.size);
  Real* shared = scratch + a.D * sizes.packed + group.group * (sizes.state + group.size * sizes.own);
  Real* own = shared + sizes.state + group.index * sizes.own;
  Real* parts =
      scratch + sizes.total(a.D, group.groups, group.size) + group.group * fingerprint_elements<Real>(group.size);
  for (int64_t d = group.directions.begin; d < group.directions.end; ++d) {
    const Packed<Real> packed =
        packed_weights(a, group, d, scratch + d * sizes.packed, reinterpret_cast<uint64_t*>(parts));
    forward_direction(a, packed, group, d, shared, own);
  }
}

// Packing takes as long as some 25 rows. Beyond 2048 rows it is not worth the memory, or a look at the cache. What
// would not fit into it would only drive others out.
template <class Real>
bool reuses_packed(const ForwardArgs<Real>& a) noexcept {
  const int64_t bytes = a.D * Packed<Real>::elements(a.I, a.H) * static_cast<int64_t>(sizeof(Real));
  return !a.saved && !is_single_step(a) && a.steps.T * a.steps.B < 2048 && bytes <= kKeptPackedBytes;
}

// How many threads can be kept busy: those of a group share out sequences, unless there is enough work in the
// units. Below 400,000 products, some 5 us, a second thread costs more than it does.
template <class Real>
int32_t forward_threads(const ForwardArgs<Real>& a, int32_t available) noexcept {
  const int64_t rows = a.steps.T * a.steps.B, work = rows * a.D * 3 * a.H * (a.I + a.H);
  if (is_single_step(a) || work < 400000) return 1;
  const int64_t useful = a.H < 64 ? a.D * a.steps.B : available;
  return static_cast<int32_t>(min_of(available, useful));
}

}  // namespace
}  // namespace fastgru
