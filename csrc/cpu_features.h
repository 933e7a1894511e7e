// Which instructions an x86 CPU has (CPUID), and of which the operating system saves the registers (XGETBV).
#pragma once

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

#include <cstdint>
#define FASTGRU_X86 1

namespace fastgru {

struct CpuidLeaf {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// Zeroes where the CPU does not know the leaf.
inline CpuidLeaf cpuid(uint32_t leaf, uint32_t subleaf) noexcept {
  CpuidLeaf out;
  __get_cpuid_count(leaf, subleaf, &out.eax, &out.ebx, &out.ecx, &out.edx);
  return out;
}

constexpr bool has_bits(uint64_t value, uint64_t bits) noexcept { return (value & bits) == bits; }

// XCR0: which register files the operating system saves. 0 where it does not use XSAVE.
inline uint64_t xcr0() noexcept {
  constexpr uint32_t kOsxsave = 1u << 27;
  if (!has_bits(cpuid(1, 0).ecx, kOsxsave)) return 0;
  uint32_t lo = 0, hi = 0;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (static_cast<uint64_t>(hi) << 32) | lo;
}

inline bool has_avx2() noexcept {
  constexpr uint64_t kXmmYmm = 0x6;
  constexpr uint32_t kFma = 1u << 12, kAvx = 1u << 28, kAvx2 = 1u << 5;
  return has_bits(xcr0(), kXmmYmm) && has_bits(cpuid(1, 0).ecx, kFma | kAvx) && has_bits(cpuid(7, 0).ebx, kAvx2);
}

inline bool has_avx512() noexcept {
  constexpr uint64_t kXmmYmmOpmaskZmm = 0xe6;
  constexpr uint32_t kF = 1u << 16, kDq = 1u << 17, kBw = 1u << 30, kVl = 1u << 31;
  return has_avx2() && has_bits(xcr0(), kXmmYmmOpmaskZmm) && has_bits(cpuid(7, 0).ebx, kF | kDq | kBw | kVl);
}

inline bool has_avx2_vnni() noexcept { return has_avx2() && has_bits(cpuid(7, 1).eax, 1u << 4); }
inline bool has_avx512_vnni() noexcept { return has_avx512() && has_bits(cpuid(7, 0).ecx, 1u << 11); }
inline bool has_avx512_bf16() noexcept { return has_avx512_vnni() && has_bits(cpuid(7, 1).eax, 1u << 5); }

}  // namespace fastgru

#endif
