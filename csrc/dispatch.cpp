#include "dispatch.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#define FASTGRU_X86 1
#endif

namespace fastgru {
namespace {

#ifdef FASTGRU_X86

struct CpuidLeaf {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// Zeroes where the CPU does not know the leaf.
CpuidLeaf cpuid(uint32_t leaf, uint32_t subleaf) noexcept {
  CpuidLeaf out;
  __get_cpuid_count(leaf, subleaf, &out.eax, &out.ebx, &out.ecx, &out.edx);
  return out;
}

constexpr bool has_bits(uint64_t value, uint64_t bits) noexcept { return (value & bits) == bits; }

// XCR0: which register files the operating system saves. 0 where it does not use XSAVE.
uint64_t xcr0() noexcept {
  constexpr uint32_t kOsxsave = 1u << 27;
  if (!has_bits(cpuid(1, 0).ecx, kOsxsave)) return 0;
  uint32_t lo = 0, hi = 0;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (static_cast<uint64_t>(hi) << 32) | lo;
}

bool has_avx2() noexcept {
  constexpr uint64_t kXmmYmm = 0x6;
  constexpr uint32_t kFma = 1u << 12, kAvx = 1u << 28, kAvx2 = 1u << 5;
  return has_bits(xcr0(), kXmmYmm) && has_bits(cpuid(1, 0).ecx, kFma | kAvx) && has_bits(cpuid(7, 0).ebx, kAvx2);
}

bool has_avx512() noexcept {
  constexpr uint64_t kXmmYmmOpmaskZmm = 0xe6;
  constexpr uint32_t kF = 1u << 16, kDq = 1u << 17, kBw = 1u << 30, kVl = 1u << 31;
  return has_avx2() && has_bits(xcr0(), kXmmYmmOpmaskZmm) && has_bits(cpuid(7, 0).ebx, kF | kDq | kBw | kVl);
}

#endif

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
