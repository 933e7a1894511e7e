#include "passes.h"

#include <stdexcept>
#include <string>
#include <vector>

#include "dispatch.h"
#include "layer.h"

using namespace nanobind::literals;

namespace fastgru::binding {
namespace {

template <class Real>
void run_forward(const Layer& layer, const View& y, const View& h_n, const View& saved, int32_t threads) {
  ForwardArgs<Real> args{};
  set_layer<ForwardArgs<Real>, Real>(layer, args);
  args.batch_invariant = is_batch_invariant();
  args.y = series<Real>(y);
  args.h_n = static_cast<Real*>(h_n.data);
  args.saved = static_cast<Real*>(saved.data);
  const Kernels<Real>& kernels = kernels_for<Real>(layer);
  run_unlocked(layer.work(), [&] {
    trust_frozen(layer.packed, layer.doubts, kernels, args);
    PackedLookup<Real> lookup(kernels, args, layer.packed);
    const int32_t team = kernels.forward_threads(args, threads);
    if (args.saved) {
      const int64_t elements = args.D * args.steps.saved_rows() * layer.saved_size();
      ask_for_huge_pages(args.saved, static_cast<size_t>(elements) * sizeof(Real));
    }
    run_kernel(args, kernels.forward_scratch(args, team), team, kernels.forward);
    lookup.keep();
    zero_padding(layer, y);
  });
}

template <class Real>
void freeze_layer(PackedOwner& owner, const Layer& layer, std::vector<int64_t> versions) {
  ForwardArgs<Real> args{};
  set_layer<ForwardArgs<Real>, Real>(layer, args);
  owner.freeze(kernels_for<Real>(layer), args, std::move(versions));
}

void freeze(PackedOwner& owner, nb::handle given) {
  Reader reader;
  const Layer layer = read_layer(given, reader);
  if (owner.frozen()) throw std::runtime_error("it is frozen already");
  std::vector<int64_t> versions = versions_of(layer.tensors);
  layer.is_double() ? freeze_layer<double>(owner, layer, std::move(versions))
                    : freeze_layer<float>(owner, layer, std::move(versions));
}

nb::object forward(nb::handle given, bool save, int32_t threads) {
  check_threads(threads);
  Reader reader;
  const Layer layer = read_layer(given, reader);
  View y, h_n, saved;
  nb::object made_y = new_rows(layer, layer.D * layer.H, y);
  nb::object made_h_n = new_empty(layer.like, {layer.D, layer.places.B, layer.H}, h_n);
  nb::object made_saved = nb::none();
  if (save) made_saved = new_empty(layer.like, {layer.D, layer.rows, layer.saved_size()}, saved);
  if (layer.places.B > 0) {
    layer.is_double() ? run_forward<double>(layer, y, h_n, saved, threads)
                      : run_forward<float>(layer, y, h_n, saved, threads);
  }
  return nb::make_tuple(std::move(made_y), std::move(made_h_n), std::move(made_saved));
}

// What the backward pass is given beside the layer, and what it writes.
struct Gradients {
  View y, saved, dy, dh_n;
  View dx, dh0, dinitial;
  std::vector<View> dweights;
};

void check_wanted(const Layer& layer, const nb::sequence& wanted) {
  const size_t count = 3 + layer.weights.size();
  if (nb::len(wanted) == count) return;
  throw nb::value_error(("wanted must tell of x, h0, initial and " + std::to_string(layer.weights.size()) +
                         " weights, got " + std::to_string(nb::len(wanted)))
                            .c_str());
}

// Leaves in the order of fastgru.core.layer.Layer.leaves, all as empty tensors; None where not wanted or not there.
nb::list new_gradients(const Layer& layer, const nb::sequence& wanted, Gradients& to) {
  check_wanted(layer, wanted);
  const size_t count = 3 + layer.weights.size();
  nb::list made;
  to.dweights.resize(layer.weights.size());
  for (size_t i = 0; i < count; ++i) {
    const View& leaf = i == 0 ? layer.x : i == 1 ? layer.h0 : i == 2 ? layer.initial : layer.weights[i - 3];
    View& view = i == 0 ? to.dx : i == 1 ? to.dh0 : i == 2 ? to.dinitial : to.dweights[i - 3];
    if (!leaf.there || !nb::cast<bool>(wanted[i])) {
      made.append(nb::none());
    } else if (leaf.ndim == 1) {
      made.append(new_empty(layer.like, {leaf.sizes[0]}, view));
    } else if (leaf.ndim == 2) {
      made.append(new_empty(layer.like, {leaf.sizes[0], leaf.sizes[1]}, view));
    } else {
      made.append(new_empty(layer.like, {leaf.sizes[0], leaf.sizes[1], leaf.sizes[2]}, view));
    }
  }
  return made;
}

template <class Real>
void run_backward(const Layer& layer, const Gradients& given, int32_t threads) {
  BackwardArgs<Real> args{};
  set_layer<BackwardArgs<Real>, Real>(layer, args);
  std::vector<uint8_t> bits;
  if (layer.tbptt > 0) {
    bits = cut_resets(layer);
    const int64_t batch = layer.has_steps() ? layer.x.sizes[1] : 1;
    args.resets.at = {bits.data(), batch, 1};
  }
  args.y = series<const Real>(given.y);
  args.saved = static_cast<const Real*>(given.saved.data);
  args.dy = series<const Real>(given.dy);
  args.dh_n = static_cast<const Real*>(given.dh_n.data);
  args.dx = series<Real>(given.dx);
  args.dh0 = static_cast<Real*>(given.dh0.data);
  args.dinitial = static_cast<Real*>(given.dinitial.data);
  set_parameters(layer, given.dweights, args.gradients);
  const Kernels<Real>& kernels = kernels_for<Real>(layer);
  run_unlocked(2 * layer.work(), [&] {
    const int32_t team = kernels.backward_threads(args, threads);
    run_kernel(args, kernels.backward_scratch(args, team), team, kernels.backward);
    if (given.dx.there) zero_padding(layer, given.dx);
  });
}

// What a layer and its outputs' gradients are, where somebody else will cut them into windows.
void check(nb::handle given, nb::handle y, nb::handle dy, nb::handle dh_n, const nb::sequence& wanted) {
  Reader reader;
  const Layer layer = read_layer(given, reader);
  const int64_t width = layer.D * layer.H;
  read_rows(layer, reader, y, "y", width);
  read_rows(layer, reader, dy, "dy", width);
  read_as(layer, reader, dh_n, "dh_n", {layer.D, layer.places.B, layer.H}, Layout::any);
  check_wanted(layer, wanted);
}

nb::object backward(nb::handle leaves_of, nb::handle y, nb::handle saved, nb::handle dy, nb::handle dh_n,
                    const nb::sequence& wanted, int32_t threads) {
  check_threads(threads);
  Reader reader;
  const Layer layer = read_layer(leaves_of, reader);
  const int64_t width = layer.D * layer.H, B = layer.places.B;
  Gradients given;
  given.y = read_rows(layer, reader, y, "y", width);
  if (!given.y.there) refuse("y", "the layer's output", given.y);
  given.saved = read_as(layer, reader, saved, "saved", {layer.D, layer.rows, layer.saved_size()}, Layout::dense);
  if (!given.saved.there) refuse("saved", "what the forward pass saved", given.saved);
  given.dy = read_rows(layer, reader, dy, "dy", width);
  given.dh_n = read_as(layer, reader, dh_n, "dh_n", {layer.D, B, layer.H}, Layout::dense);
  nb::list made = new_gradients(layer, wanted, given);
  if (B == 0) {
    for (const nb::handle gradient : made) {
      if (!gradient.is_none()) call(gradient, "zero_");
    }
    return made;
  }
  if (given.dinitial.there && !layer.resets.there) call(made[2], "zero_");
  layer.is_double() ? run_backward<double>(layer, given, threads) : run_backward<float>(layer, given, threads);
  return made;
}

// Whether a tensor is plain, strided, on the CPU and of one dtype with x.
bool is_alike(nb::handle tensor, const View& x, View& view) {
  return read_header(tensor, view) && view.dtype.code == x.dtype.code && view.dtype.bits == x.dtype.bits;
}

bool has_shape(const View& view, nb::handle shape) {
  if (!nb::isinstance<nb::tuple>(shape)) return false;
  const auto sizes = nb::borrow<nb::tuple>(shape);
  if (static_cast<int32_t>(sizes.size()) != view.ndim) return false;
  for (int32_t i = 0; i < view.ndim; ++i) {
    if (PyLong_AsLongLong(sizes[i].ptr()) != view.sizes[static_cast<size_t>(i)]) return false;
  }
  return true;
}

bool takes(nb::handle x, nb::handle h0, const nb::list& weights, const nb::tuple& shapes) {
  View first, view;
  if (!read_header(x, first) || (first.dtype.code != dlpack::kFloat && first.dtype.code != dlpack::kBfloat)) return false;
  if (!h0.is_none() && !is_alike(h0, first, view)) return false;
  if (weights.size() != shapes.size()) return false;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (!is_alike(weights[i], first, view) || !has_shape(view, shapes[i])) return false;
  }
  return true;
}

}  // namespace

void check_threads(int32_t threads) {
  if (threads < 1) throw nb::value_error(("threads must be at least 1, got " + std::to_string(threads)).c_str());
}

void define_passes(nb::module_& m) {
  nb::class_<PackedOwner>(m, "PackedWeights", "Keeps a layer's packed weights from call to call, while it lives.")
      .def(nb::init<>())
      .def("freeze", &freeze, "layer"_a,
           "Trusts the weights of a layer (fastgru.core.layer.Layer) from now on; RuntimeError in a call with others.")
      .def_prop_ro("of_copies", &PackedOwner::of_copies, nb::rv_policy::reference_internal,
                   "Keeps those of copies of the weights that are made for one call, and lie elsewhere each time.");
  m.def("takes", &takes, "x"_a, "h0"_a.none(), "weights"_a, "shapes"_a,
        "Whether x, h0 (or None) and the weights are plain dense tensors on the CPU, of one floating dtype, and the "
        "weights of these shapes.");
  m.def("check", &check, "layer"_a, "y"_a.none(), "dy"_a.none(), "dh_n"_a.none(), "wanted"_a,
        "Raises what backward would for a layer, its output and their gradients.");
  m.def("forward", &forward, "layer"_a, "save"_a, "threads"_a,
        "Runs a layer (fastgru.core.layer.Layer): y in the form of x, h_n [D, B, H] and what backward needs, None without "
        "`save`. TypeError, ValueError and RuntimeError say what does not fit.");
  m.def("backward", &backward, "layer"_a, "y"_a, "saved"_a, "dy"_a.none(), "dh_n"_a.none(), "wanted"_a, "threads"_a,
        "Differentiates a layer: the gradients of x, h0, initial and the weights, None where not wanted or not there.");
}

}  // namespace fastgru::binding
