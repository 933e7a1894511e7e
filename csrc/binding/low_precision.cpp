#include "low_precision.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "layer.h"
#include "low_dispatch.h"
#include "low_layer.h"
#include "passes.h"

using namespace nanobind::literals;

namespace fastgru::binding {
namespace {

// What identifies weights as they are: where each lies, and what torch counts of its changes.
struct Identity {
  std::vector<const void*> places;
  std::vector<int64_t> versions;

  bool is_unknown() const noexcept { return std::find(versions.begin(), versions.end(), kNoVersion) != versions.end(); }
  bool operator==(const Identity& other) const noexcept {
    return places == other.places && versions == other.versions;
  }
};

// Keeps a layer's packed weights, and frees them when it is destroyed. They are made anew when torch counts a change of
// the weights, and at each call of tensors of which it counts none (those of inference mode).
class LowWeights {
 public:
  std::shared_ptr<const LowLayer> get(const Layer& layer, const ForwardArgs<float>& args) {
    Identity identity;
    for (const View& view : layer.weights) identity.places.push_back(view.data);
    identity.versions = versions_of(layer.tensors);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (kept_ && identity == identity_ && !identity.is_unknown() && kept_->is_current(layer.precision)) return kept_;
    kept_ = nullptr;
    LowParameters parameters[2];
    for (int64_t d = 0; d < layer.D; ++d) {
      const View* own = layer.weights.data() + d * layer.per_direction;
      const auto weight = [&](int64_t i) -> const void* { return own[i].data; };
      parameters[d] = low_parameters_of(layer.form, layer.bias, layer.precision, weight);
    }
    kept_ = std::make_shared<const LowLayer>(args, layer.precision, parameters);
    identity_ = std::move(identity);
    return kept_;
  }

 private:
  std::mutex mutex_;
  Identity identity_;
  std::shared_ptr<const LowLayer> kept_;
};

nb::object forward_low(nb::handle given, LowWeights& weights, int32_t threads) {
  check_threads(threads);
  Reader reader;
  const Layer layer = read_layer(given, reader, true);
  View y, h_n;
  nb::object made_y = new_rows(layer, layer.D * layer.H, y);
  nb::object made_h_n = new_empty(layer.like, {layer.D, layer.places.B, layer.H}, h_n);
  if (layer.places.B > 0) {
    ForwardArgs<float> args{};
    set_layer<ForwardArgs<float>, float>(layer, args);
    args.y = series<float>(y);
    args.h_n = static_cast<float*>(h_n.data);
    const std::shared_ptr<const LowLayer> packed = weights.get(layer, args);
    packed->lend(args);
    const LowKernels& kernels = packed->kernels();
    run_unlocked(layer.work(), [&] {
      const int32_t team = kernels.forward_threads(args, threads);
      run_kernel(args, kernels.forward_scratch(args, team), team, kernels.forward);
      zero_padding(layer, y);
    });
  }
  return nb::make_tuple(std::move(made_y), std::move(made_h_n));
}

// W x with the scale of each row of x: what a test holds against the definition.
nb::object int8_products(nb::handle given_w, nb::handle given_x) {
  Reader reader;
  const View w = reader.read(given_w, "w", Layout::dense), x = reader.read(given_x, "x", Layout::dense);
  const bool is_matrix = w.ndim == 2 && w.sizes[0] >= 3 && w.sizes[0] % 3 == 0 && w.sizes[1] >= 1;
  if (!is_matrix || !w.is(dlpack::kInt, 8)) refuse("w", "[3H, I] int8", w);
  const int64_t H = w.sizes[0] / 3, I = w.sizes[1];
  if (x.ndim != 2 || x.sizes[1] != I || !x.is(dlpack::kFloat, 32)) refuse("x", "[B, " + std::to_string(I) + "] float32", x);
  const int64_t B = x.sizes[0];
  View to;
  nb::object made = new_empty(given_x, {B, 3 * H}, to);
  const LowKernels& kernels = active_low_kernels(Precision::int8);
  const std::vector<int8_t> w_hh(static_cast<size_t>(3 * H * H), 0);
  const std::vector<float> ones(static_cast<size_t>(3 * H), 1.0f);
  Buffer<float> packed(static_cast<size_t>(kernels.packed_elements(I, H)));
  Buffer<float> scratch(static_cast<size_t>(kernels.products_scratch(I, H, B)));
  const LowParameters parameters{w.data, w_hh.data(), ones.data(), ones.data(), nullptr, nullptr, nullptr, nullptr};
  kernels.pack(parameters, Form::after, I, H, packed.data());
  kernels.products(packed.data(), I, H, static_cast<const float*>(x.data), B, scratch.data(), static_cast<float*>(to.data));
  return made;
}

}  // namespace

void define_low_precision(nb::module_& m) {
  nb::class_<LowWeights>(m, "LowWeights", "Keeps a layer's packed weights of few bits from call to call, while it lives.")
      .def(nb::init<>());
  m.def("forward_low", &forward_low, "layer"_a, "weights"_a, "threads"_a,
        "Runs a layer (fastgru.core.layer.Layer) of int8 or bfloat16 weights: y in the form of x, h_n [D, B, H]. TypeError, "
        "ValueError and RuntimeError say what does not fit.");
  m.def("int8_products", &int8_products, "w"_a, "x"_a,
        "x W^T as the int8 kernels compute it, of w [3H, I] int8 and x [B, I] float32: sums of whole numbers, times what "
        "one is worth in each row of x.");
  m.def("low_precision_sets", &low_precision_sets,
        "The kernels for weights of few bits that this CPU can run, slowest first.");
  m.def("low_precision_set", &low_precision_set, "Those in use.");
  m.def("force_low_precision_set", &force_low_precision_set, "name"_a,
        "Uses others from now on; '' goes back to the default. ValueError if they are not there.");
}

}  // namespace fastgru::binding
