// Networks and streams for Python: from arrays to arrays, without torch.
#pragma once

#include <nanobind/nanobind.h>

namespace fastgru::binding {

// Adds the classes Network and Stream to a module.
void define_runtime(nanobind::module_& m);

}  // namespace fastgru::binding
