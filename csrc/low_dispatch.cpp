#include "low_dispatch.h"

#include <atomic>
#include <stdexcept>

#include "cpu_features.h"
#include "dispatch.h"
#include "system.h"

namespace fastgru {
namespace {

struct LowSet {
  Isa isa;
  const char* name;
  bool (*is_supported)() noexcept;  // beside the instruction set
  const LowKernelSet& (*kernels)() noexcept;
};

bool always() noexcept { return true; }

constexpr LowSet kSets[] = {
    {Isa::generic, "generic", &always, &low_kernels_generic},
#if defined(FASTGRU_X86)
    {Isa::avx2, "avx2", &always, &low_kernels_avx2},
    {Isa::avx2, "avx2+vnni", &has_avx2_vnni, &low_kernels_avx2_vnni},
    {Isa::avx512, "avx512", &always, &low_kernels_avx512},
    {Isa::avx512, "avx512+vnni", &has_avx512_vnni, &low_kernels_avx512_vnni},
    {Isa::avx512, "avx512+bf16", &has_avx512_bf16, &low_kernels_avx512_bf16},
#elif defined(__aarch64__)
    {Isa::neon, "neon", &always, &low_kernels_neon},
    {Isa::neon, "neon+dotprod", &has_dotprod, &low_kernels_neon_dotprod},
#endif
};

bool is_supported(const LowSet& set) noexcept { return isa_supported(set.isa) && set.is_supported(); }

std::atomic<const LowSet*> forced{nullptr};

// Which sets are supported is asked once: CPUID is slow under a hypervisor.
const LowSet& default_set(Isa isa) {
  struct Best {
    const LowSet* of[kIsaCount] = {};
    Best() noexcept {
      for (const LowSet& set : kSets) {
        if (is_supported(set)) of[static_cast<int32_t>(set.isa)] = &set;
      }
    }
  };
  static const Best best;
  return *best.of[static_cast<int32_t>(isa)];
}

const LowSet& active_set() {
  const LowSet* set = forced.load(std::memory_order_relaxed);
  return set ? *set : default_set(active_isa());
}

}  // namespace

std::vector<std::string> low_precision_sets() {
  std::vector<std::string> names;
  for (const LowSet& set : kSets) {
    if (is_supported(set)) names.emplace_back(set.name);
  }
  return names;
}

std::string low_precision_set() { return active_set().name; }

void force_low_precision_set(const std::string& name) {
  if (name.empty()) return forced.store(nullptr, std::memory_order_relaxed);
  std::string names;
  for (const LowSet& set : kSets) {
    if (!is_supported(set)) continue;
    if (name == set.name) return forced.store(&set, std::memory_order_relaxed);
    names += (names.empty() ? "" : ", ") + std::string(set.name);
  }
  throw std::invalid_argument("kernels '" + name + "' are unknown or not supported here; this machine has: " + names);
}

const LowKernels& active_low_kernels(Precision precision) {
  const LowKernelSet& set = active_set().kernels();
  return precision == Precision::int8 ? set.int8 : set.bf16;
}

const Kernels<float>* rounding_kernels() {
  const LowKernelSet& set = active_set().kernels();
  return set.rounding ? &set.rounding() : nullptr;
}

}  // namespace fastgru
