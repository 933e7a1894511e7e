// Which packed weights a call works with: kept ones, or fresh ones.
#pragma once

#include "fingerprint.inl"
#include "packing.inl"
#include "team.inl"

namespace fastgru {
namespace {

// All of a group's threads come here together and leave with the same. parts: [group.size].
template <class Real>
uint64_t fingerprint_together(const Parameters<const Real>& parameters, int64_t I, int64_t H, const Group& group,
                              uint64_t* parts) noexcept {
  parts[group.index] = fingerprint_part(parameters, I, H, group.index, group.size);
  wait_for(group);
  uint64_t sum = 0;
  for (int64_t i = 0; i < group.size; ++i) sum += parts[i];
  return sum;
}

// Packed weights of a direction that can be used: those of an earlier call if they still are the parameters,
// otherwise packed here and now. All of a group's threads come here together. parts: [2 * group.size].
template <class Weights, class Real>
Weights packed_weights(const ForwardArgs<Real>& a, const Group& group, int64_t d, Real* scratch,
                            uint64_t* parts) noexcept {
  if (a.trusted) return Weights(a.packed[d], a.I, a.H);
  const Parameters<const Real>& parameters = a.parameters[d];
  const bool keeps = !a.packed[d] && a.pack_into[d];
  Real* fresh = keeps ? a.pack_into[d] : scratch;
  uint64_t before = 0;
  if (a.packed[d] || keeps) before = fingerprint_together(parameters, a.I, a.H, group, parts);
  if (a.packed[d]) {
    const bool stale = before != a.fingerprint[d];
    if (group.index == 0) a.packing[d] = {stale, false, 0};
    if (!stale) return Weights(a.packed[d], a.I, a.H);
  }
  const Range own = part_of({0, Weights::blocks(a.H)}, group.index, group.size);
  Weights::pack_blocks(parameters, a.form, a.I, a.H, own, fresh);
  wait_for(group);
  if (keeps) {  // another thread may write to the parameters meanwhile
    const uint64_t after = fingerprint_together(parameters, a.I, a.H, group, parts + group.size);
    if (group.index == 0) a.packing[d] = {false, before == after, after};
  }
  return Weights(fresh, a.I, a.H);
}

}  // namespace
}  // namespace fastgru
