// The Python module fastgru._native. This file registers; what it includes of this folder does the work.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "dispatch.h"
#include "gru.h"
#include "low_precision.h"
#include "memory.h"
#include "packed_cache.h"
#include "passes.h"
#include "runtime.h"
#include "step.h"
#include "step_training.h"
#include "tensor.h"
#include "threads.h"
#include "unlocked.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using fastgru::active_kernels;
using fastgru::Team;

// The best of some trials of about 5 ms, all threads at once, in 10^9 operations a second.
double microkernel_gflops(int32_t threads) {
  constexpr int64_t kRepeats = 10000, kTerms = 128, kElements = fastgru::kProbeWidth * (kTerms + 1);
  constexpr int kTrials = 10;
  struct Probe {
    std::vector<float> memory;
    std::vector<int64_t> operations;
  };
  const auto count = static_cast<size_t>(std::max(threads, 1));
  Probe probe{std::vector<float>(count * kElements), std::vector<int64_t>(count)};
  const auto body = [](const Team& team, void* context) noexcept {
    auto& own = *static_cast<Probe*>(context);
    const auto index = static_cast<size_t>(team.index);
    own.operations[index] = active_kernels<float>().probe(kRepeats, kTerms, &own.memory[index * kElements]);
  };
  active_kernels<float>();  // throws here, if at all, and not in a thread
  double best = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    const auto start = std::chrono::steady_clock::now();
    fastgru::run_team(static_cast<int32_t>(count), body, &probe);
    const std::chrono::duration<double, std::nano> taken = std::chrono::steady_clock::now() - start;
    int64_t operations = 0;
    for (const int64_t done : probe.operations) operations += done;
    best = std::max(best, static_cast<double>(operations) / taken.count());
  }
  return best;
}

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
  m.doc() = "fastgru's C++ module: the kernels, from tensors to tensors. All that is given is checked here.";
  m.def("instruction_sets", &instruction_sets,
        "The instruction sets that this CPU and operating system can run, slowest first.");
  m.def(
      "instruction_set", [] { return std::string(fastgru::isa_name(fastgru::active_isa())); },
      "The set in use. ValueError if FASTGRU_ISA names one that is not there.");
  m.def("force_instruction_set", &fastgru::force_isa, "name"_a,
        "Uses another set from now on; '' goes back to the default. ValueError if it is not there.");
  m.def("is_batch_invariant", &fastgru::is_batch_invariant, "Whether single steps have the bits of longer calls too.");
  m.def("set_batch_invariant", &fastgru::set_batch_invariant, "wanted"_a,
        "Says so from now on, in all threads; returns what was said before.");
  m.def("microkernel_gflops", &microkernel_gflops, nb::call_guard<fastgru::binding::Unlocked>(), "threads"_a,
        "The rate of the product's innermost tile in float32, on memory that stays in L1: what can be had at best.");
  m.def("use_tensors", &fastgru::binding::use_tensors, "tensor"_a, "parameter"_a,
        "storage"_a, "in_place"_a = true,
        "Torch's types, to be told once torch is there; its threads compute from then on. in_place false: tensors are read "
        "through their Python methods.");
  m.def(
      "clear_caches",
      [] {
        fastgru::clear_packed();
        fastgru::clear_arenas();
      },
      "Frees the packed weights and the scratch kept for later calls.");
  m.def("packed_bytes", &fastgru::packed_bytes, "Bytes of packed weights kept now.");
  fastgru::binding::define_passes(m);
  // What a graph or a module holds when the interpreter ends is no leak of ours.
  nb::set_leak_warnings(false);
  fastgru::binding::define_step(m);
  fastgru::binding::define_step_training(m);
  fastgru::binding::define_runtime(m);
  fastgru::binding::define_low_precision(m);
}
