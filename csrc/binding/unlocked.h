// The interpreter's lock, given away for a while.
#pragma once

#include <nanobind/nanobind.h>

#include <chrono>
#include <thread>

namespace fastgru::binding {

// As nanobind's gil_scoped_release, but for the end of the process: before Python 3.14 a daemon thread that comes back
// to an interpreter which is ending is ended by unwinding, and that ends the process through std::terminate where it
// meets a noexcept function. It stays here instead until the process is gone, as from 3.14 on.
class Unlocked {
 public:
  Unlocked() noexcept : state_(PyEval_SaveThread()) {}
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;
  ~Unlocked() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }

 private:
  PyThreadState* const state_;
};

}  // namespace fastgru::binding
