// The Python module fastgru._native: the only file here that knows Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "dispatch.h"

namespace nb = nanobind;

namespace {

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (int32_t i = 0; i < fastgru::kIsaCount; ++i) {
    const auto isa = static_cast<fastgru::Isa>(i);
    if (fastgru::isa_supported(isa)) names.emplace_back(fastgru::isa_name(isa));
  }
  return names;
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "fastgru's C++ module.";
  m.def("instruction_sets", &instruction_sets,
        "The instruction sets that this CPU and operating system can run, slowest first.");
}
