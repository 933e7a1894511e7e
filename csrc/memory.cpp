#include "memory.h"

#include <atomic>
#include <cstdint>
#include <new>

#include "system.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace fastgru {
namespace {

constexpr size_t kLine = 64, kHugePage = size_t{2} << 20, kKept = size_t{256} << 20;

std::atomic<uint64_t> clearings{0};  // how often clear_arenas was called

}  // namespace

void ask_for_huge_pages([[maybe_unused]] void* memory, [[maybe_unused]] size_t bytes) noexcept {
#ifdef MADV_HUGEPAGE
  const auto begin = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (begin + bytes) / kHugePage * kHugePage;
  if (end > first) madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);  // a refusal changes nothing
#endif
}

void* allocate(size_t bytes) {
  const size_t alignment = bytes < kHugePage ? kLine : kHugePage;
  const size_t whole = (bytes + alignment - 1) / alignment * alignment;
  void* memory = allocate_aligned(alignment, whole);
  if (memory == nullptr) throw std::bad_alloc();
  ask_for_huge_pages(memory, whole);
  return memory;
}

void release(void* memory) noexcept { free_aligned(memory); }

void* Arena::reserve(size_t bytes) {
  if (bytes > bytes_) {
    release(memory_);
    memory_ = nullptr;
    bytes_ = 0;
    memory_ = allocate(bytes);
    bytes_ = bytes;
  }
  return memory_;
}

void Arena::trim() noexcept {
  const uint64_t now = clearings.load(std::memory_order_relaxed);
  if (bytes_ <= kKept && clearings_ == now) return;
  clearings_ = now;
  release(memory_);
  memory_ = nullptr;
  bytes_ = 0;
}

Arena& thread_arena(ArenaUse use) {
  static thread_local Arena arenas[2];
  return arenas[use == ArenaUse::scratch ? 0 : 1];
}

void clear_arenas() noexcept {
  clearings.fetch_add(1, std::memory_order_relaxed);
  thread_arena(ArenaUse::scratch).trim();
  thread_arena(ArenaUse::outputs).trim();
}

}  // namespace fastgru
