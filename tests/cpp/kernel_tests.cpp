// Random layers on every instruction set of this machine against a plain loop in double.
//
//   kernel_tests [--seed S] [--isa NAME] [COUNT]
//
// COUNT cases on each instruction set, or on the one named, with seeds from S on; avx512+bf16 is AVX-512 with products
// that are rounded to bfloat16, in float alone. Each line says which case begins, so
// that the last one tells where a sanitizer stopped; a difference returns 1 and says with which arguments to see it
// again.
#include <algorithm>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "arguments.h"
#include "comparison.h"
#include "dispatch.h"
#include "layer.h"
#include "low_dispatch.h"

namespace fastgru::tests {
namespace {

// How far results may be off.
struct Bounds {
  double outputs, gradients;
};

// Weights of few units are large, and so are the terms that cancel in a sum of theirs: below 8 units the bounds grow
// with 8 / H. A norm takes the mean from all numbers, forward and backward, and what is left has fewer digits: 3 times
// the bounds, 1.8 times were seen.
Bounds scaled(const Problem& p, Bounds bounds) {
  const double rounded = std::max(1.0, 8.0 / static_cast<double>(p.H)) * (p.form == Form::normed ? 3 : 1);
  return {bounds.outputs * rounded, bounds.gradients * rounded};
}

// What a plain loop makes of a problem, and of the same problem with inputs that are off by half a rounding: a layer
// whose gradients explode moves far, and no arithmetic can be nearer than that.
struct Expected {
  Results<double> results, moved;

  Expected(const Problem& p, double rounding) : results(expect(p)), moved(expect(nudged(p, rounding / 2))) {}
  explicit Expected(const Results<double>& both) : results(both), moved(both) {}
};

using Field = Tensor<double> Results<double>::*;
using Gradient = Tensor<double> Weights<double>::*;

// The error is at most the bound, or three times what half a rounding makes.
bool within(const char* name, const Tensor<double>& got, const Tensor<double>& expected, const Tensor<double>& moved,
            const Tensor<uint8_t>& exists, double bound) {
  const double error = error_of(got, expected, exists);
  if (error <= bound || error <= 3 * error_of(moved, expected, {})) return true;
  std::printf("%s: error %.2e, bound %.2e\n", name, error, bound);
  return false;
}

bool outputs_agree(const Problem& p, const Results<double>& got, const Expected& expected, double bound) {
  bool good = true;
  const auto check = [&](const char* name, Field field, const Tensor<uint8_t>& exists) {
    good &= within(name, got.*field, expected.results.*field, expected.moved.*field, exists, bound);
  };
  check("y", &Results<double>::y, existing(p, p.D * p.H));
  check("h_n", &Results<double>::h_n, {});
  return good;
}

bool gradients_agree(const Problem& p, const Results<double>& got, const Expected& expected, double bound) {
  bool good = true;
  const auto check = [&](const char* name, Field field, const Tensor<uint8_t>& exists) {
    good &= within(name, got.*field, expected.results.*field, expected.moved.*field, exists, bound);
  };
  check("dx", &Results<double>::dx, existing(p, p.I));
  check("dh0", &Results<double>::dh0, {});
  check("dinitial", &Results<double>::dinitial, {});
  for (int64_t d = 0; d < p.D; ++d) {
    const auto check_weights = [&](const char* name, Gradient field) {
      good &= within(name, got.gradients[d].*field, expected.results.gradients[d].*field,
                     expected.moved.gradients[d].*field, {}, bound);
    };
    check_weights("dw_ih", &Weights<double>::w_ih);
    check_weights("dw_hh", &Weights<double>::w_hh);
    check_weights("db_ih", &Weights<double>::b_ih);
    check_weights("db_hh", &Weights<double>::b_hh);
    check_weights("dg_ih", &Weights<double>::g_ih);
    check_weights("dg_hh", &Weights<double>::g_hh);
  }
  return good;
}

// Outputs are the same on one thread, on several and in training, where a single step takes ways of its own.
template <class Real>
bool is_batch_invariant(Layer<Real>& layer, int32_t threads) {
  layer.batch_invariant = true;
  layer.infer(1);
  const Results<double> first = layer.results();
  const auto is_first = [&](const char* way) {
    const Results<double> got = layer.results();
    if (same_bits(got.y, first.y) && same_bits(got.h_n, first.h_n)) return true;
    std::printf("%s: other bits than on one thread\n", way);
    return false;
  };
  layer.infer(threads);
  bool good = is_first("inference");
  layer.infer_trusted(threads);
  good &= is_first("trusted weights");
  layer.train(threads);
  good &= is_first("training");
  layer.batch_invariant = false;
  return good;
}

// After training. In float64 the differences of the plain loop set the bound.
template <class Real>
bool second_derivatives_agree(const Problem& p, Layer<Real>& layer, int32_t threads, Bounds bounds) {
  if (!has_second_derivatives(p)) return true;
  const Results<double> direction = draw_direction(p, static_cast<uint32_t>(p.B));
  const Expected expected(expect_second(p, direction));
  const double bound = std::max(bounds.gradients, 3e-11);
  layer.double_backward(direction, threads);
  const Results<double> got = layer.results();
  const bool outputs = outputs_agree(p, got, expected, bound);
  if (gradients_agree(p, got, expected, bound) && outputs) return true;
  std::printf("  second derivatives\n");
  return false;
}

// With packed weights that are another layer's, none, and kept ones; then training. rounding: of what is multiplied.
template <class Real>
bool agrees(const Problem& p, const Kernels<Real>& kernels, int32_t threads, Bounds bounds,
            double rounding = std::numeric_limits<Real>::epsilon()) {
  const Expected expected(p, rounding);
  bounds = scaled(p, bounds);
  Layer<Real> layer(p, kernels);
  layer.infer_with_others(threads);
  for (const char* weights : {"stale", "fresh", "kept"}) {
    layer.infer(threads);
    if (outputs_agree(p, layer.results(), expected, bounds.outputs)) continue;
    std::printf("  inference with %s packed weights\n", weights);
    return false;
  }
  const auto training_agrees = [&] {
    const Results<double> got = layer.results();
    const bool outputs = outputs_agree(p, got, expected, bounds.outputs);
    return gradients_agree(p, got, expected, bounds.gradients) && outputs;
  };
  if (!is_batch_invariant(layer, threads)) return false;
  layer.train(threads);
  if (!training_agrees() || (layer.train_by_records(threads) && !training_agrees())) return false;
  return second_derivatives_agree(p, layer, threads, bounds);
}

struct Set {
  std::string name;
  const Kernels<float>& f32;
  const Kernels<double>* f64;  // null where all of it is rounded
};

// Rounding to bfloat16 makes errors of 2^-9 in each factor.
constexpr double kBf16Epsilon = 1.0 / 128;

// One case, on 1 to 4 threads as its seed has it.
bool test_case(const Set& set, uint32_t seed, const std::string& place) {
  const Problem p = draw(seed);
  const auto threads = static_cast<int32_t>(1 + seed % 4);
  const bool single = set.f64 ? agrees(p, set.f32, threads, {1e-6, 3e-6})
                              : agrees(p, set.f32, threads, {kBf16Epsilon / 2, 2 * kBf16Epsilon}, kBf16Epsilon);
  if (single && (!set.f64 || agrees(p, *set.f64, threads, {1e-14, 1e-13}))) return true;
  std::printf("  %s, %s, %d threads; again: kernel_tests --isa %s --seed %u 1\n", place.c_str(),
              single ? "float64" : "float32", threads, set.name.c_str(), seed);
  describe(p);
  return false;
}

bool test_cases(const Set& set, uint32_t seed, int64_t count) {
  for (int64_t i = 0; i < count; ++i, ++seed) {
    const std::string place =
        set.name + ", case " + std::to_string(i + 1) + " of " + std::to_string(count) + ", seed " + std::to_string(seed);
    std::printf("%s\n", place.c_str());
    std::fflush(stdout);
    if (!test_case(set, seed, place)) return false;
  }
  return true;
}

// Two callers at once: nothing but the cache of packed weights is shared between them.
bool test_set(const Set& set, uint32_t seed, int64_t count) {
  bool other = true;
  std::thread caller([&] { other = test_cases(set, seed + static_cast<uint32_t>(count), count / 2); });
  const bool good = test_cases(set, seed, count);
  caller.join();
  std::printf("%s: %s\n", set.name.c_str(), good && other ? "good" : "BAD");
  return good && other;
}

std::vector<Set> sets() {
  std::vector<Set> found;
  for (int32_t i = 0; i < kIsaCount; ++i) {
    const auto isa = static_cast<Isa>(i);
    if (isa_supported(isa)) found.push_back({isa_name(isa), kernels_of(isa).f32, &kernels_of(isa).f64});
  }
  if (rounding_kernels()) found.push_back({low_precision_set(), *rounding_kernels(), nullptr});
  return found;
}

int run_tests(const Arguments& arguments) {
  bool good = true, any = false;
  for (const Set& set : sets()) {
    if (!arguments.set.empty() && arguments.set != set.name) continue;
    any = true;
    good = test_set(set, arguments.seed, arguments.count) && good;
  }
  if (!any) throw std::invalid_argument("this machine has no instruction set '" + arguments.set + "'");
  return good ? 0 : 1;
}

}  // namespace
}  // namespace fastgru::tests

int main(int argc, char** argv) {
  try {
    return fastgru::tests::run_tests(fastgru::tests::parse(argc, argv, "--isa"));
  } catch (const std::invalid_argument& error) {
    std::fprintf(stderr, "%s\nkernel_tests [--seed S] [--isa NAME] [COUNT]\n", error.what());
    return 2;
  }
}
