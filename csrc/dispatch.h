// Which instruction sets this CPU and this operating system can run.
#pragma once

#include <cstdint>
#include <string>

#include "gru.h"

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

// The set in use: what FASTGRU_ISA names, or the last set that is supported. Throws std::invalid_argument
// if FASTGRU_ISA names none, or one that this machine has not.
Isa active_isa();

// Uses another set from now on; "" goes back to the default. Throws as active_isa does.
void force_isa(const std::string& name);

// The kernels of a supported set.
const KernelSet& kernels_of(Isa isa) noexcept;

// Whether calls are to be ForwardArgs::batch_invariant.
bool is_batch_invariant() noexcept;

// Says so from now on, in all threads; returns what was said before.
bool set_batch_invariant(bool wanted) noexcept;

// Those of the set in use for float or double. Throws as active_isa does.
template <class Real>
const Kernels<Real>& active_kernels() {
  const KernelSet& set = kernels_of(active_isa());
  if constexpr (sizeof(Real) == 4) {
    return set.f32;
  } else {
    return set.f64;
  }
}

}  // namespace fastgru
