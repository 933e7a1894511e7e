// Memory for the kernels' own use, aligned to a cache line. Megabytes of it are asked for in huge pages: weights that
// lie beyond the caches are read once a step, and under a hypervisor each of their small pages costs a long walk.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastgru {

// Throws std::bad_alloc. Holds anything.
void* allocate(size_t bytes);
void release(void* memory) noexcept;

// Asks for huge pages where somebody else's memory has not been touched yet; otherwise changes nothing.
void ask_for_huge_pages(void* memory, size_t bytes) noexcept;

// A thread's scratch, kept for its next call up to a limit.
class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() { release(memory_); }

  // At least so many bytes, which may hold anything. Throws std::bad_alloc.
  void* reserve(size_t bytes);
  // To be called when the scratch is no longer used: gives back what is beyond the limit, or was cleared meanwhile.
  void trim() noexcept;

 private:
  void* memory_ = nullptr;
  size_t bytes_ = 0;
  uint64_t clearings_ = 0;  // that it has seen
};

// The calling thread's.
Arena& thread_arena();

// Frees the calling thread's scratch now, and that of every other thread at the end of its next call.
void clear_arenas() noexcept;

}  // namespace fastgru
