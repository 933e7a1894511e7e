// Waiting for another thread.
#pragma once

#include <cstdint>
#include <thread>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace fastgru {

// Spins for some microseconds, then gives the CPU away at each turn: on a busy machine a pure spin costs whole time
// slices.
class Spin {
 public:
  bool is_long() const noexcept { return turns_ == kTurns; }

  void turn() noexcept {
    if (is_long()) {
      std::this_thread::yield();
    } else {
      ++turns_;
      pause();
    }
  }

 private:
  // About 20 us where a pause takes 140 cycles (Skylake and later), 5 us where it takes 40.
  static constexpr int32_t kTurns = 500;

  static void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
  }

  int32_t turns_ = 0;
};

}  // namespace fastgru
