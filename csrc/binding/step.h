// One step of a stack of layers from Python: a call of tens of microseconds' Python would take longer than the step.
#pragma once

#include <nanobind/nanobind.h>

namespace fastgru::binding {

// Adds step and cell_step to a module.
void define_step(nanobind::module_& m);

}  // namespace fastgru::binding
