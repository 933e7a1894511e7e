// What operating systems do each in their own way.
#pragma once

#include <cstddef>

namespace fastgru {

// Has these called around every fork of the process, each of which may be null; nothing where there are no forks.
void at_fork(void (*before)(), void (*in_parent)(), void (*in_child)()) noexcept;

// From now on the code of this library stays where it is, even if whoever loaded it lets it go: threads are in it.
void stay_loaded() noexcept;

// A function of the OpenMP that torch uses in this process; null where there is none.
void* openmp_of_torch(const char* name) noexcept;

#ifdef __aarch64__
// Whether an Arm CPU has the dot product of 8-bit numbers.
bool has_dotprod() noexcept;
#endif

// bytes is a multiple of the alignment, a power of two. Null where there is no memory.
void* allocate_aligned(size_t alignment, size_t bytes) noexcept;
void free_aligned(void* memory) noexcept;

}  // namespace fastgru
