// Which kernels for weights of few bits this CPU can run: an instruction set's, or those that need something beside it.
#pragma once

#include <string>
#include <vector>

#include "gru.h"

namespace fastgru {

// Their names as users write them, slowest first: "generic", "avx2", "avx2+vnni", "avx512", "avx512+vnni",
// "avx512+bf16" (which has vnni too), "neon", "neon+dotprod". Every name begins with its instruction set's.
std::vector<std::string> low_precision_sets();

// The one in use: what was forced, or the last that is supported of the instruction set in use. Throws as active_isa
// does.
std::string low_precision_set();

// Uses another from now on; "" goes back to the default. Throws std::invalid_argument where it is not supported.
void force_low_precision_set(const std::string& name);

// Those of the one in use; `precision` is not full. Throws as active_isa does.
const LowKernels& active_low_kernels(Precision precision);

// Kernels of float that round to bfloat16 for their products, or null where the one in use has none. Throws as
// active_isa does.
const Kernels<float>* rounding_kernels();

}  // namespace fastgru
