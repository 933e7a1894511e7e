// Threads that sleep between calls, of this process and for all who call: one needs no OpenMP.
//
// A call takes idle ones, the last used first, and where these are too few makes more, which stay until the process
// ends. They may sleep then: what they hold is never freed. A forked child has none of its parent's, and makes its own.
#pragma once

#include <cstdint>

namespace fastgru {

using PoolBody = void (*)(int32_t index, int32_t size, void* context) noexcept;

// Runs body on `wanted` threads, the caller among them as number 0, and returns when all are done: on fewer where the
// machine has no more threads to give. Any number of threads may call at once. Throws std::bad_alloc.
void run_on_pool(int32_t wanted, PoolBody body, void* context);

}  // namespace fastgru
