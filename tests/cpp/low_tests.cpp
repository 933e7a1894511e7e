// Weights of few bits, on every set of kernels for them of this machine, against a plain loop in double.
//
//   low_tests [--seed S] [--set NAME] [COUNT]
//
// COUNT cases of each precision on each set, or on the one named, with seeds from S on; what it prints is what
// kernel_tests prints.
//
// Whole numbers are compared bit for bit. The steps of a layer are compared one by one, each from the state that the
// kernels themselves had before it: a number on the edge between two whole ones then falls to the same side in both.
// Of Form::before r * h is not known so well; a step where that lies on an edge is left out.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "arguments.h"
#include "comparison.h"
#include "dispatch.h"
#include "layer.h"
#include "low_dispatch.h"
#include "low_layer.h"
#include "low_weights.h"

namespace fastgru::tests {
namespace {

constexpr Precision kPrecisions[] = {Precision::int8, Precision::bf16};

const char* name_of(Precision precision) { return precision == Precision::int8 ? "int8" : "bf16"; }

// What the cases of a set have shown.
struct Seen {
  double products = 0, steps = 0;     // the largest error as a share of what is allowed; of products of bf16, of steps
  int64_t compared = 0, unknown = 0;  // numbers of steps; those left out
};

using Engine = std::mt19937;

int64_t below(Engine& engine, int64_t n) { return static_cast<int64_t>(engine() % static_cast<uint64_t>(n)); }

Tensor<float> normal(Engine& engine, int64_t n, float scale) {
  std::normal_distribution<float> numbers(0, scale);
  Tensor<float> out(n);
  for (float& x : out) x = numbers(engine);
  return out;
}

// A row that is hard to make whole numbers of.
Tensor<float> hard_row(Engine& engine, int64_t K) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kScales[] = {1, 1, 1e30f, 1e-20f, 1e-29f, 1e-31f, 1e-40f, 0};
  const int64_t kind = below(engine, 12), at = below(engine, K);
  Tensor<float> row = normal(engine, K, kind < 8 ? kScales[kind] : 1);
  if (kind == 8) row[at] = std::numeric_limits<float>::quiet_NaN();
  if (kind == 9) row[at] = below(engine, 2) == 0 ? kInfinity : -kInfinity;
  if (kind == 10) row[at] = -std::numeric_limits<float>::max();
  if (kind == 11) {  // halves, which go to even numbers: 127 / most is 1
    for (float& x : row) x = static_cast<float>(below(engine, 254) - 127) / 2;
    row[at] = -127;
  }
  return row;
}

// A matrix [3H, I] and rows [B, I].
struct Product {
  int64_t I, H, B;
  Tensor<double> w;
  Tensor<float> x;

  Tensor<float> row(int64_t b) const {
    Tensor<float> out(I);
    for (int64_t i = 0; i < I; ++i) out[i] = x[b * I + i];
    return out;
  }
};

Product draw_product(Engine& engine) {
  constexpr int64_t kSizes[] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 33, 64, 65, 130, 300};
  Product p{kSizes[below(engine, 16)], kSizes[below(engine, 12)], 1 + below(engine, 20), {}, {}};
  p.w = Tensor<double>(normal(engine, 3 * p.H * p.I, 0.3f));
  for (int64_t b = 0; b < p.B; ++b) {
    const Tensor<float> row = hard_row(engine, p.I);
    Tensor<float> joined(p.x.size() + p.I);
    std::copy(row.begin(), row.end(), std::copy(p.x.begin(), p.x.end(), joined.begin()));
    p.x = joined;
  }
  return p;
}

// The longest sums that there are, of the largest numbers.
Product largest_product() {
  Product p{kMostInt8Terms, 1, 2, Tensor<double>(3 * kMostInt8Terms, 1), Tensor<float>(2 * kMostInt8Terms, 1)};
  for (int64_t i = 0; i < p.I; ++i) {
    p.w[p.I + i] = -1;
    p.w[2 * p.I + i] = i % 2 == 0 ? 1 : -1;
    p.x[p.I + i] = -1;
  }
  return p;
}

Tensor<float> products_of(const LowKernels& kernels, const Product& p, const LowParameters& parameters) {
  Buffer<float> packed(static_cast<size_t>(kernels.packed_elements(p.I, p.H)));
  Buffer<float> scratch(static_cast<size_t>(kernels.products_scratch(p.I, p.H, p.B)));
  std::fill_n(scratch.data(), scratch.size(), std::numeric_limits<float>::quiet_NaN());
  Tensor<float> out(p.B * 3 * p.H, std::numeric_limits<float>::quiet_NaN());
  kernels.pack(parameters, Form::after, p.I, p.H, packed.data());
  kernels.products(packed.data(), p.I, p.H, p.x.data(), p.B, scratch.data(), out.data());
  return out;
}

bool is_same(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// int8: bit for bit.
bool whole_products_agree(const Product& p) {
  Weights<double> weights;
  weights.w_ih = p.w, weights.w_hh = Tensor<double>(3 * p.H * p.H);
  const LowWeights low(weights, p.H, Precision::int8);
  const LowParameters parameters = low.view();
  const auto* whole = static_cast<const int8_t*>(parameters.w_ih);
  const Tensor<float> got = products_of(active_low_kernels(Precision::int8), p, parameters);
  for (int64_t b = 0; b < p.B; ++b) {
    const WholeRow row(p.row(b));
    for (int64_t j = 0; j < 3 * p.H; ++j) {
      int64_t sum = 0;
      for (int64_t i = 0; i < p.I; ++i) sum += whole[j * p.I + i] * static_cast<int64_t>(row.numbers[i]);
      const float expected = static_cast<float>(sum) * parameters.s_ih[j] * row.worth, is = got[b * 3 * p.H + j];
      if (is_same(is, expected)) continue;
      std::printf("int8 products: row %d of %d, column %d: %.9g, not %.9g\n", static_cast<int>(b),
                  static_cast<int>(p.B), static_cast<int>(j), static_cast<double>(is), static_cast<double>(expected));
      return false;
    }
  }
  return true;
}

bool rounds_bf16() { return low_precision_set() == "avx512+bf16"; }

// bf16: as sums of float are. What is less than a normal number may be zero: some kernels have no others.
bool bf16_products_agree(const Product& p, Seen& seen) {
  constexpr double kRounding = std::numeric_limits<float>::epsilon() / 2, kLeast = 1e-37;
  Weights<double> weights;
  weights.w_ih = p.w, weights.w_hh = Tensor<double>(3 * p.H * p.H);
  const LowWeights low(weights, p.H, Precision::bf16);
  const Tensor<float> got = products_of(active_low_kernels(Precision::bf16), p, low.view());
  for (int64_t b = 0; b < p.B; ++b) {
    const Tensor<double> exact(p.row(b)), row = rounds_bf16() ? as_bf16(exact, false) : exact;
    for (int64_t j = 0; j < 3 * p.H; ++j) {
      double sum = 0, size = 0;
      for (int64_t i = 0; i < p.I; ++i) sum += weights.w_ih[j * p.I + i] * row[i];
      for (int64_t i = 0; i < p.I; ++i) size += std::abs(weights.w_ih[j * p.I + i] * row[i]);
      if (!(size < std::numeric_limits<float>::max())) continue;  // nothing is known of sums that are not finite
      const double is = got[b * 3 * p.H + j], terms = static_cast<double>(p.I);
      const double share = std::abs(is - sum) / (kRounding * terms * size + kLeast * terms);
      seen.products = std::max(seen.products, share);
      if (share <= 1) continue;
      std::printf("bf16 products: row %d of %d, column %d: %.9g, not %.9g\n", static_cast<int>(b),
                  static_cast<int>(p.B), static_cast<int>(j), is, sum);
      return false;
    }
  }
  return true;
}

// The kernels' view of a problem whose weights become ones of few bits.
class LowCase {
 public:
  LowCase(Problem& p, Precision precision) {
    LowParameters parameters[2];
    ForwardArgs<float> sizes{};
    sizes.I = p.I, sizes.H = p.H, sizes.D = p.D, sizes.form = p.form;
    for (int64_t d = 0; d < p.D; ++d) {
      weights_[d] = LowWeights(p.weights[d], p.H, precision);
      parameters[d] = weights_[d].view();
    }
    if (precision == Precision::int8) p.entering = &as_whole_numbers;
    if (precision == Precision::bf16 && rounds_bf16()) p.entering = &as_bf16;
    layer_.emplace_back(sizes, precision, parameters);
  }

  Results<double> results(const Problem& p, int32_t threads) const {
    Layer<float> layer(p, kernels_of(Isa::generic).f32);
    layer.infer_with(layer_.front(), threads);
    return layer.results();
  }

 private:
  LowWeights weights_[2];
  std::vector<LowLayer> layer_;  // the one
};

// What is not known becomes what it is; returns of how many numbers.
int64_t leave_out_unknown(Tensor<double>& expected, const Tensor<double>& got) {
  int64_t count = 0;
  for (int64_t i = 0; i < got.size(); ++i) {
    if (!std::isnan(expected[i])) continue;
    expected[i] = got[i];
    ++count;
  }
  return count;
}

// Errors of a step do not grow with the steps before it, but with the numbers that cancel in sums of few, and in a
// norm.
double bound_of(const Problem& p) {
  return 4e-7 * std::max(1.0, 8.0 / static_cast<double>(p.H)) * (p.form == Form::normed ? 3 : 1);
}

bool steps_agree(const Problem& p, const Results<double>& got, Seen& seen) {
  Problem by_steps = p;
  by_steps.states = got.y;
  Results<double> expected = expect(by_steps);
  const Tensor<uint8_t> exists = existing(p, p.D * p.H);
  const double bound = bound_of(p);
  for (Tensor<double> Results<double>::*field : {&Results<double>::y, &Results<double>::h_n}) {
    const bool is_y = field == &Results<double>::y;
    seen.unknown += leave_out_unknown(expected.*field, got.*field);
    seen.compared += (got.*field).size();
    const double error = error_of(got.*field, expected.*field, is_y ? exists : Tensor<uint8_t>());
    seen.steps = std::max(seen.steps, error / bound);
    if (error <= bound) continue;
    std::printf("%s: error %.2e, bound %.2e\n", is_y ? "y" : "h_n", error, bound);
    return false;
  }
  return true;
}

// Whether results are the same but for one sequence's.
bool others_are_same(const Problem& p, const Results<double>& a, const Results<double>& b, int64_t sequence) {
  Results<double> c = b;
  for (int64_t t = 0; t < p.lengths[sequence]; ++t) {
    const int64_t at = p.at(t, sequence) * p.D * p.H;
    for (int64_t i = at; i < at + p.D * p.H; ++i) c.y[i] = a.y[i];
  }
  for (int64_t d = 0; d < p.D; ++d) {
    const int64_t at = (d * p.B + p.slot(sequence)) * p.H;
    for (int64_t i = at; i < at + p.H; ++i) c.h_n[i] = a.h_n[i];
  }
  return same_bits(a.y, c.y) && same_bits(a.h_n, c.h_n);
}

// A number of one step's input is not finite: other sequences have the bits that they had, and of int8 this step is
// NaN.
bool keeps_apart(const Problem& p, const LowCase& low, Precision precision, const Results<double>& before,
                 Engine& engine, int32_t threads) {
  const int64_t b = below(engine, p.B);
  if (p.lengths[b] == 0) return true;
  const int64_t t = below(engine, p.lengths[b]), row = p.at(t, b);
  Problem q = p;
  constexpr double kBad[] = {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()};
  q.x[row * p.I + below(engine, p.I)] = kBad[below(engine, 2)];
  const Results<double> got = low.results(q, threads);
  bool good = others_are_same(p, before, got, b);
  for (int64_t i = row * p.D * p.H; i < (row + 1) * p.D * p.H && precision == Precision::int8; ++i) {
    good &= std::isnan(got.y[i]);
  }
  if (!good)
    std::printf("a number that is not finite in step %d of sequence %d\n", static_cast<int>(t), static_cast<int>(b));
  return good;
}

bool layer_agrees(uint32_t seed, Precision precision, Engine& engine, int32_t threads, Seen& seen) {
  Problem p = draw(seed);
  p.dy = p.dh_n = {};
  const LowCase low(p, precision);
  const Results<double> got = low.results(p, threads), alone = low.results(p, 1);
  const bool is_same = same_bits(got.y, alone.y) && same_bits(got.h_n, alone.h_n);
  if (!is_same) std::printf("other bits than on one thread\n");
  const bool good = is_same & steps_agree(p, got, seen) && keeps_apart(p, low, precision, got, engine, threads);
  if (!good) describe(p);
  return good;
}

bool test_case(uint32_t seed, Precision precision, Seen& seen) {
  Engine engine(seed);
  const auto threads = static_cast<int32_t>(1 + seed % 4);
  const Product product = draw_product(engine);
  const bool products =
      precision == Precision::int8 ? whole_products_agree(product) : bf16_products_agree(product, seen);
  if (products && layer_agrees(seed, precision, engine, threads, seen)) return true;
  std::printf("  %s, %d threads; again: low_tests --set %s --seed %u 1\n", name_of(precision), threads,
              low_precision_set().c_str(), seed);
  return false;
}

bool test_cases(Precision precision, uint32_t seed, int64_t count) {
  const std::string set = low_precision_set();
  Seen seen;
  for (int64_t i = 0; i < count; ++i, ++seed) {
    std::printf("%s, %s, case %d of %d, seed %u\n", set.c_str(), name_of(precision), static_cast<int>(i + 1),
                static_cast<int>(count), seed);
    std::fflush(stdout);
    if (!test_case(seed, precision, seen)) return false;
  }
  const double unknown = static_cast<double>(seen.unknown) / std::max(1.0, static_cast<double>(seen.compared));
  std::printf("%s, %s: errors of products %.2f, of steps %.2f of what they may be; %.1e of the numbers left out\n",
              set.c_str(), name_of(precision), seen.products, seen.steps, unknown);
  return unknown <= 0.05;
}

bool test_set(const std::string& set, uint32_t seed, int64_t count) {
  force_low_precision_set(set);
  bool good = whole_products_agree(largest_product());
  for (const Precision precision : kPrecisions) good &= test_cases(precision, seed, count);
  std::printf("%s: %s\n", set.c_str(), good ? "good" : "BAD");
  return good;
}

int run_tests(const Arguments& arguments) {
  bool good = true;
  if (!arguments.set.empty()) return test_set(arguments.set, arguments.seed, arguments.count) ? 0 : 1;
  for (const std::string& set : low_precision_sets()) good &= test_set(set, arguments.seed, arguments.count);
  return good ? 0 : 1;
}

}  // namespace
}  // namespace fastgru::tests

int main(int argc, char** argv) {
  try {
    return fastgru::tests::run_tests(fastgru::tests::parse(argc, argv, "--set"));
  } catch (const std::invalid_argument& error) {
    std::fprintf(stderr, "%s\nlow_tests [--seed S] [--set NAME] [COUNT]\n", error.what());
    return 2;
  }
}
