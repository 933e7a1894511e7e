// One parallel region a call, and barriers inside it.
//
// Beside torch the threads are those of its OpenMP, of the very library that torch has loaded. After each operator of
// its own torch's worker threads spin for milliseconds: threads of ours would have to win the processor from them,
// theirs are there at once. It is found at run time, so that this library needs no OpenMP, brings none, and has no
// second one loaded. Elsewhere, and in a forked process, where libgomp waits forever for workers that the fork left
// behind, they are the pool's (pool.h). Each thread that calls has a team of its own.
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

// Waits until `count` threads have come to the barrier (as spin.h does); what each wrote before is then seen by all.
// May be used again at once.
void wait_at(Barrier& barrier, int32_t count) noexcept;

// Runs body(team, context) on `size` threads, the caller among them, and returns when all are done.
// The team may come out smaller than asked for; body must go by team.size.
void run_team(int32_t size, void (*body)(const Team& team, void* context) noexcept, void* context);

// From now on regions run on torch's threads, if torch is loaded and has OpenMP. To be called when it has been loaded.
void use_threads_of_torch() noexcept;

}  // namespace fastgru
