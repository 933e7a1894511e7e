// The two passes of one layer, from tensors to tensors.
#pragma once

#include <nanobind/nanobind.h>

#include <utility>

#include "memory.h"
#include "threads.h"

namespace fastgru::binding {

// Adds forward, backward, takes and the class PackedWeights to a module.
void define_passes(nanobind::module_& m);

// Raises ValueError where there are none.
void check_threads(int32_t threads);

// Products beyond which other Python threads may run meanwhile, some 25 us: to get the interpreter back may take
// milliseconds where one of them computes.
constexpr int64_t kLongCall = 1 << 20;

// Calls body, without the interpreter's lock where it will take long.
template <class Body>
void run_unlocked(int64_t products, Body body) {
  if (products <= kLongCall) return body();
  const nanobind::gil_scoped_release release;
  body();
}

// Runs a kernel on a team, with scratch of the calling thread.
template <class Args, class Real>
void run_kernel(const Args& args, int64_t scratch_elements, int32_t threads,
                void (*kernel)(const Args&, Real*, const Team&) noexcept) {
  struct Call {
    void (*kernel)(const Args&, Real*, const Team&) noexcept;
    const Args& args;
    Real* scratch;
  };
  Arena& arena = thread_arena();
  auto* scratch = static_cast<Real*>(arena.reserve(static_cast<size_t>(scratch_elements) * sizeof(Real)));
  Call call{kernel, args, scratch};
  const auto body = [](const Team& team, void* context) noexcept {
    const auto& call = *static_cast<const Call*>(context);
    call.kernel(call.args, call.scratch, team);
  };
  run_team(threads, body, &call);
  arena.trim();
}

}  // namespace fastgru::binding
