// A kernel's call.
#pragma once

#include <cstdint>

#include "memory.h"
#include "threads.h"

namespace fastgru {

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

}  // namespace fastgru
