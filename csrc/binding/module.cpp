// The Python module fastgru._native. Tensors come as addresses; who calls has checked dtype, shape and strides. (But
// for a single step, where that would take longer than the step: stepper.cpp.)
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "dispatch.h"
#include "gru.h"
#include "memory.h"
#include "packed_cache.h"
#include "step.h"
#include "threads.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using fastgru::active_kernels;
using fastgru::Kernels;
using fastgru::Team;

// (I, H, D, T, B, form, reverse); (rows, first, order, time, batch) as in gru.h, then the resets' address and strides
// and the initial state, then the recurrent factors and zoneout's address and strides; (address, time stride, batch
// stride); (w_ih, w_hh, b_ih, b_hh) of each direction, then (g_ih, g_hh) of each, the second's unused where D is 1.
// Addresses may be 0.
using Sizes = std::array<int64_t, 7>;
using StepAddresses = std::array<int64_t, 13>;
using SeriesAddress = std::array<int64_t, 3>;
using ParameterAddresses = std::array<int64_t, 12>;

template <class T>
T* at(int64_t address) noexcept {
  return reinterpret_cast<T*>(address);  // NOLINT: addresses are what this interface is made of
}

template <class Args, class Real>
struct Call {
  void (*run)(const Args&, Real*, const Team&) noexcept;
  const Args& args;
  Real* scratch;

  static void body(const Team& team, void* context) noexcept {
    const auto& call = *static_cast<const Call*>(context);
    call.run(call.args, call.scratch, team);
  }
};

template <class Args, class Real>
void run(const Args& args, int64_t scratch_elements, int32_t threads,
         void (*kernel)(const Args&, Real*, const Team&) noexcept) {
  static thread_local fastgru::Arena arena;
  auto* scratch = static_cast<Real*>(arena.reserve(static_cast<size_t>(scratch_elements) * sizeof(Real)));
  Call<Args, Real> call{kernel, args, scratch};
  fastgru::run_team(threads, &Call<Args, Real>::body, &call);
  arena.trim();
}

template <class Args>
void set_layer(Args& args, const Sizes& sizes, const StepAddresses& steps, double keep) noexcept {
  args.I = sizes[0];
  args.H = sizes[1];
  args.D = sizes[2];
  args.form = static_cast<fastgru::Form>(sizes[5]);
  args.reverse = sizes[6] != 0;
  args.steps = {sizes[3],
                sizes[4],
                at<const int64_t>(steps[0]),
                at<const int64_t>(steps[1]),
                at<const int64_t>(steps[2]),
                at<const int64_t>(steps[3]),
                at<const int64_t>(steps[4])};
  args.resets.at = {at<const uint8_t>(steps[5]), steps[6], steps[7]};
  args.resets.initial = at<std::remove_pointer_t<decltype(args.resets.initial)>>(steps[8]);
  args.noise.recurrent = at<std::remove_pointer_t<decltype(args.noise.recurrent)>>(steps[9]);
  args.noise.zoneout = {at<std::remove_pointer_t<decltype(args.noise.zoneout.data)>>(steps[10]), steps[11], steps[12]};
  args.noise.keep = static_cast<decltype(args.noise.keep)>(keep);
}

template <class Real>
void set_parameters(fastgru::Parameters<Real> (&parameters)[2], const ParameterAddresses& from) noexcept {
  for (size_t d = 0; d < 2; ++d) {
    parameters[d] = {at<Real>(from[4 * d]),     at<Real>(from[4 * d + 1]), at<Real>(from[4 * d + 2]),
                     at<Real>(from[4 * d + 3]), at<Real>(from[8 + 2 * d]), at<Real>(from[9 + 2 * d])};
  }
}

template <class Real>
fastgru::Series<Real> series(const SeriesAddress& from) noexcept {
  return {at<Real>(from[0]), from[1], from[2]};
}

template <class Real>
void forward(Sizes sizes, StepAddresses steps, double keep, ParameterAddresses parameters, SeriesAddress x, int64_t h0,
             SeriesAddress y, int64_t h_n, int64_t saved, int32_t threads) {
  fastgru::ForwardArgs<Real> args{};
  set_layer(args, sizes, steps, keep);
  set_parameters(args.parameters, parameters);
  args.x = series<const Real>(x);
  args.h0 = at<const Real>(h0);
  args.y = series<Real>(y);
  args.h_n = at<Real>(h_n);
  args.saved = at<Real>(saved);
  const Kernels<Real>& kernels = active_kernels<Real>();
  fastgru::PackedLoan<Real> loan(kernels, args);
  const int32_t team = kernels.forward_threads(args, threads);
  if (args.saved) {
    const int64_t elements = args.D * args.steps.saved_rows() * fastgru::saved_pitch(args.form, args.H);
    fastgru::ask_for_huge_pages(args.saved, static_cast<size_t>(elements) * sizeof(Real));
  }
  run(args, kernels.forward_scratch(args, team), team, kernels.forward);
  loan.keep();
}

template <class Real>
void backward(Sizes sizes, StepAddresses steps, double keep, ParameterAddresses parameters, SeriesAddress x, int64_t h0,
              SeriesAddress y, int64_t saved, SeriesAddress dy, int64_t dh_n, SeriesAddress dx, int64_t dh0,
              int64_t dinitial, ParameterAddresses gradients, int32_t threads) {
  fastgru::BackwardArgs<Real> args{};
  set_layer(args, sizes, steps, keep);
  set_parameters(args.parameters, parameters);
  args.x = series<const Real>(x);
  args.y = series<const Real>(y);
  args.h0 = at<const Real>(h0);
  args.saved = at<const Real>(saved);
  args.dy = series<const Real>(dy);
  args.dh_n = at<const Real>(dh_n);
  args.dx = series<Real>(dx);
  args.dh0 = at<Real>(dh0);
  args.dinitial = at<Real>(dinitial);
  set_parameters(args.gradients, gradients);
  const Kernels<Real>& kernels = active_kernels<Real>();
  const int32_t team = kernels.backward_threads(args, threads);
  run(args, kernels.backward_scratch(args, team), team, kernels.backward);
}

template <class Real>
void define_kernels(nb::module_& m, const std::string& suffix) {
  using release = nb::call_guard<nb::gil_scoped_release>;
  m.def(("forward_" + suffix).c_str(), &forward<Real>, release(), "sizes"_a, "steps"_a, "keep"_a, "parameters"_a, "x"_a,
        "h0"_a, "y"_a, "h_n"_a, "saved"_a, "threads"_a);
  m.def(("backward_" + suffix).c_str(), &backward<Real>, release(), "sizes"_a, "steps"_a, "keep"_a, "parameters"_a,
        "x"_a, "h0"_a, "y"_a, "saved"_a, "dy"_a, "dh_n"_a, "dx"_a, "dh0"_a, "dinitial"_a, "gradients"_a, "threads"_a);
}

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
  m.doc() = "fastgru's C++ module. Tensors are passed as addresses: gru.h says what each must hold.";
  m.def("instruction_sets", &instruction_sets,
        "The instruction sets that this CPU and operating system can run, slowest first.");
  m.def(
      "instruction_set", [] { return std::string(fastgru::isa_name(fastgru::active_isa())); },
      "The set in use. ValueError if FASTGRU_ISA names one that is not there.");
  m.def("force_instruction_set", &fastgru::force_isa, "name"_a,
        "Uses another set from now on; '' goes back to the default. ValueError if it is not there.");
  m.def("microkernel_gflops", &microkernel_gflops, nb::call_guard<nb::gil_scoped_release>(), "threads"_a,
        "The rate of the product's innermost tile in float32, on memory that stays in L1: what can be had at best.");
  m.def("clear_packed", &fastgru::clear_packed, nb::call_guard<nb::gil_scoped_release>(),
        "Frees the packed weights kept for later calls; the next call of each layer packs them anew.");
  fastgru::define_stepper(m);
  define_kernels<float>(m, "f32");
  define_kernels<double>(m, "f64");
}
