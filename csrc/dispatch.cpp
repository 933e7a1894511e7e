#include "dispatch.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "cpu_features.h"

namespace fastgru {
namespace {

constexpr int32_t kUndecided = -1;
std::atomic<int32_t> active{kUndecided};
std::atomic<bool> batch_invariant{false};

std::string supported_names() {
  std::string names;
  for (int32_t i = 0; i < kIsaCount; ++i) {
    const auto isa = static_cast<Isa>(i);
    if (isa_supported(isa)) names += std::string(names.empty() ? "" : ", ") + isa_name(isa);
  }
  return names;
}

Isa isa_named(const std::string& name) {
  for (int32_t i = 0; i < kIsaCount; ++i) {
    const auto isa = static_cast<Isa>(i);
    if (name == isa_name(isa) && isa_supported(isa)) return isa;
  }
  throw std::invalid_argument("instruction set '" + name +
                              "' is unknown or not supported here; this machine has: " + supported_names());
}

Isa default_isa() {
  const char* named = std::getenv("FASTGRU_ISA");
  if (named != nullptr && *named != '\0') return isa_named(named);
  Isa best = Isa::generic;
  for (int32_t i = 0; i < kIsaCount; ++i) {
    if (isa_supported(static_cast<Isa>(i))) best = static_cast<Isa>(i);
  }
  return best;
}

}  // namespace

const char* isa_name(Isa isa) noexcept {
  switch (isa) {
    case Isa::generic: return "generic";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    case Isa::neon: return "neon";
  }
  return "unknown";
}

bool isa_supported(Isa isa) noexcept {
  switch (isa) {
    case Isa::generic: return true;
#ifdef FASTGRU_X86
    case Isa::avx2: return has_avx2();
    case Isa::avx512: return has_avx512();
#elif defined(__aarch64__)
    case Isa::neon: return true;  // AArch64 always has it
#endif
    default: return false;
  }
}

Isa active_isa() {
  int32_t isa = active.load(std::memory_order_relaxed);
  if (isa == kUndecided) {
    isa = static_cast<int32_t>(default_isa());
    active.store(isa, std::memory_order_relaxed);
  }
  return static_cast<Isa>(isa);
}

void force_isa(const std::string& name) {
  active.store(static_cast<int32_t>(name.empty() ? default_isa() : isa_named(name)), std::memory_order_relaxed);
}

bool is_batch_invariant() noexcept { return batch_invariant.load(std::memory_order_relaxed); }

bool set_batch_invariant(bool wanted) noexcept { return batch_invariant.exchange(wanted, std::memory_order_relaxed); }

const KernelSet& kernels_of(Isa isa) noexcept {
  switch (isa) {
#ifdef FASTGRU_X86
    case Isa::avx2: return kernels_avx2();
    case Isa::avx512: return kernels_avx512();
#elif defined(__aarch64__)
    case Isa::neon: return kernels_neon();
#endif
    default: return kernels_generic();
  }
}

}  // namespace fastgru
