// One parallel region a call, and barriers inside it.
//
// The threads are OpenMP's, of the very libgomp that torch has loaded (it is found by its name, so there is one
// in a process). After each operator of its own torch's worker threads spin for milliseconds: threads of ours
// would have to win the processor from them, theirs are there at once. What OpenMP cannot do is done with
// threads made for the one region: in a forked process libgomp waits forever for workers that the fork left
// behind, and ThreadSanitizer does not see its barriers. Each Python thread that calls has a team of its own.
#pragma once

#include <cstdint>

namespace fastgru {

class Barrier;

// What a thread of a region knows. The barriers belong to the region.
struct Team {
  int32_t index, size;
  Barrier* all;       // for the whole team
  Barrier* group[2];  // for the threads of one direction
};

// Waits until `count` threads have come to the barrier; what each wrote before is then seen by all.
// Spins for some microseconds, then gives the CPU away: on a busy machine a pure spin costs whole time
// slices. May be used again at once.
void wait_at(Barrier& barrier, int32_t count) noexcept;

// Runs body(team, context) on `size` threads, the caller among them, and returns when all are done.
// The team may come out smaller than asked for; body must go by team.size.
void run_team(int32_t size, void (*body)(const Team& team, void* context) noexcept, void* context);

}  // namespace fastgru
