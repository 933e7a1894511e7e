#include "threads.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace fastgru {

class Barrier {
 public:
  void wait(int32_t count) noexcept {
    const int32_t round = round_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int32_t spins = 0; round_.load(std::memory_order_acquire) == round; ++spins) {
      if (spins < kSpins) {
        pause();
      } else {
        sched_yield();
      }
    }
  }

 private:
  // About 20 us where a pause takes 140 cycles (Skylake and later), 5 us where it takes 40.
  static constexpr int32_t kSpins = 500;

  static void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
  }

  alignas(64) std::atomic<int32_t> arrived_{0};
  alignas(64) std::atomic<int32_t> round_{0};
};

void wait_at(Barrier& barrier, int32_t count) noexcept { barrier.wait(count); }

namespace {

using Body = void (*)(const Team&, void*) noexcept;

struct Barriers {
  Barrier all, group[2];

  Team team(int32_t index, int32_t size) noexcept { return {index, size, &all, {&group[0], &group[1]}}; }
};

// Threads of our own, made anew: 20 to 50 us a thread. They wait at a gate until all that can be had are there,
// for their barriers count on the team's size.
void run_on_new_threads(int32_t wanted, Body body, void* context) {
  Barriers barriers;
  std::atomic<int32_t> size{0};
  std::vector<std::thread> others;
  others.reserve(static_cast<size_t>(wanted));
  const auto run = [&](int32_t index) noexcept {
    while (size.load(std::memory_order_acquire) == 0) sched_yield();
    body(barriers.team(index, size.load(std::memory_order_relaxed)), context);
  };
  try {
    for (int32_t i = 1; i < wanted; ++i) others.emplace_back(run, i);
  } catch (const std::system_error&) {
    // the machine has no more threads to give: fewer do the work
  }
  size.store(static_cast<int32_t>(others.size()) + 1, std::memory_order_release);
  run(0);
  for (std::thread& other : others) other.join();
}

#ifdef _OPENMP

std::atomic<bool> forked{false};

void run_on_openmp(int32_t size, Body body, void* context) {
  Barriers barriers;
#pragma omp parallel num_threads(size)
  body(barriers.team(omp_get_thread_num(), omp_get_num_threads()), context);
}

void note_fork() noexcept { forked.store(true, std::memory_order_relaxed); }

#endif

}  // namespace

void run_team(int32_t size, Body body, void* context) {
  if (size == 1) {
    body(Barriers().team(0, 1), context);
    return;
  }
#ifdef _OPENMP
  static const int registered = pthread_atfork(nullptr, nullptr, note_fork);
  if (registered == 0 && !forked.load(std::memory_order_relaxed)) {
    run_on_openmp(size, body, context);
    return;
  }
#endif
  run_on_new_threads(size, body, context);
}

}  // namespace fastgru
