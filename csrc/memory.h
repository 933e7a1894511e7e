// Memory for the kernels' own use, aligned to a cache line. Megabytes of it are asked for in huge pages: weights that
// lie beyond the caches are read once a step, and under a hypervisor each of their small pages costs a long walk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace fastgru {

// Throws std::bad_alloc. Holds anything.
void* allocate(size_t bytes);
void release(void* memory) noexcept;

// So many numbers, freed with it; without any where it is made by default. They may be anything.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t size) : data_(static_cast<T*>(allocate(size * sizeof(T)))), size_(size) {}
  Buffer(Buffer&& other) noexcept : data_(other.data_), size_(other.size_) { other.data_ = nullptr, other.size_ = 0; }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Buffer() { release(data_); }

  T* data() const noexcept { return data_; }
  size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

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

enum class ArenaUse : uint8_t { scratch, outputs };  // of kernels; that layers hand to each other

// The calling thread's.
Arena& thread_arena(ArenaUse use = ArenaUse::scratch);

// Frees the calling thread's scratch now, and that of every other thread at the end of its next call.
void clear_arenas() noexcept;

}  // namespace fastgru
