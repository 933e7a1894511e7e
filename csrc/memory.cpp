#include "memory.h"

#include <cstdlib>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace fastgru {
namespace {

constexpr size_t kLine = 64, kHugePage = size_t{2} << 20;

}  // namespace

void* allocate(size_t bytes) {
  const size_t alignment = bytes < kHugePage ? kLine : kHugePage;
  const size_t whole = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, whole);
  if (memory == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  if (alignment == kHugePage) madvise(memory, whole, MADV_HUGEPAGE);  // only a wish: a refusal changes nothing
#endif
  return memory;
}

void release(void* memory) noexcept { std::free(memory); }

}  // namespace fastgru
