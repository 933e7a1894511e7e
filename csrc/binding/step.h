// One step of a stack of layers from Python: a call of tens of microseconds' Python would take longer than the step.
#pragma once

#include <nanobind/nanobind.h>

namespace fastgru {

// Adds the class Stepper to a module.
void define_stepper(nanobind::module_& m);

}  // namespace fastgru
