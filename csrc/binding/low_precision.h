// Layers of weights of few bits, from tensors to tensors.
#pragma once

#include <nanobind/nanobind.h>

namespace fastgru::binding {

// Adds LowWeights, forward_low, int8_products and what tells the kernels in use to a module.
void define_low_precision(nanobind::module_& m);

}  // namespace fastgru::binding
