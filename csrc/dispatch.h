// Which instruction sets this CPU and this operating system can run.
#pragma once

#include <cstdint>

namespace fastgru {

// Ordered: on one architecture a later set is the faster one. `generic` runs everywhere.
enum class Isa : int32_t { generic = 0, avx2 = 1, avx512 = 2, neon = 3 };

// Number of values of Isa.
constexpr int32_t kIsaCount = 4;

// The set's name as users write it: "generic", "avx2" (with FMA), "avx512" (F, BW, DQ, VL) or "neon".
const char* isa_name(Isa isa) noexcept;

// True where the CPU has every instruction of the set (CPUID) and the operating system saves its
// registers (XGETBV): asking the CPU alone is not enough under some hypervisors and kernels.
bool isa_supported(Isa isa) noexcept;

}  // namespace fastgru
