// The two passes of one layer, from tensors to tensors.
#pragma once

#include <nanobind/nanobind.h>

#include <utility>

#include "run.h"
#include "unlocked.h"

namespace fastgru::binding {

// Adds forward, backward, takes and the class PackedWeights to a module.
void define_passes(nanobind::module_& m);

// Raises ValueError where there are none.
void check_threads(int32_t threads);

// Products beyond which other Python threads may run meanwhile, some 25 us: to get the interpreter back may take
// milliseconds where one of them computes.
constexpr int64_t kLongCall = 1 << 20;

// Calls body, without the interpreter's lock where it will take long.
template <class Body>
void run_unlocked(int64_t products, Body body) {
  if (products <= kLongCall) return body();
  const Unlocked unlocked;
  body();
}

}  // namespace fastgru::binding
