// Single steps of which gradients are wanted, and the weights' gradients of many steps at once.
#pragma once

#include <nanobind/nanobind.h>

namespace fastgru::binding {

// Adds step_forward, step_backward and the class StepRecords to a module.
void define_step_training(nanobind::module_& m);

}  // namespace fastgru::binding
