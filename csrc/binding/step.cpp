#include "step.h"

#include "dispatch.h"

using namespace nanobind::literals;

namespace fastgru::binding {
namespace {

// Sequences: of layers that are not frozen; of frozen ones, whose packed weights are there, while one thread is enough.
constexpr int64_t kMaxBatch = 2, kMaxFrozenBatch = 64;

template <class Real>
void run_layers(const StepCall& call, Real* y, Real* h_n) {
  const Kernels<Real>& kernels = active_kernels<Real>();
  const int64_t layer = call.B * call.H;
  Real* unread = nullptr;  // packed kernels write an output beside the state
  if (!call.frozen.empty()) {
    unread = static_cast<Real*>(thread_arena(ArenaUse::outputs).reserve(static_cast<size_t>(layer) * sizeof(Real)));
  }
  for (int64_t l = 0; l < call.L; ++l) {
    ForwardArgs<Real> args{};
    call.set_layer(l, l == 0 ? static_cast<const Real*>(call.x.data) : h_n + (l - 1) * layer, args);
    args.batch_invariant = is_batch_invariant();
    args.y = {l == call.L - 1 && y ? y : unread, 0, call.H};
    args.h_n = h_n + l * layer;
    if (!call.frozen.empty()) trust_frozen(call.frozen[static_cast<size_t>(l)], call.doubts, kernels, args);
    run_kernel(args, kernels.forward_scratch(args, 1), 1, kernels.forward);
  }
}

void run(const StepCall& call, void* y, void* h_n) {
  run_unlocked(call.products(), [&] {
    call.is_double() ? run_layers(call, static_cast<double*>(y), static_cast<double*>(h_n))
                     : run_layers(call, static_cast<float*>(y), static_cast<float*>(h_n));
  });
}

// Plain layers' weights tell whether there are biases.
bool read_plain(StepCall& call, nb::handle x, nb::handle state, const nb::list& weights, Reader& reader) {
  if (call.L < 1) return false;
  call.bias = static_cast<int64_t>(weights.size()) != 2 * call.L;
  return call.read_input(x, weights, call.frozen.empty() ? kMaxBatch : kMaxFrozenBatch, reader) && call.read_weights(weights, reader) &&
         call.read_state(state, reader);
}

nb::object step(nb::handle x, nb::handle state, const nb::list& weights, int64_t layers, double keep,
                nb::handle frozen) {
  StepCall call;
  call.L = layers;
  call.read_frozen(frozen, weights);
  call.keep = keep;
  Reader reader(/*measures=*/false);
  if (!read_plain(call, x, state, weights, reader)) return nb::none();
  View y, h_n;
  nb::object made = call.new_output(y), next = call.new_states(h_n);
  run(call, y.data, h_n.data);
  return nb::make_tuple(std::move(made), std::move(next));
}

nb::object cell_step(nb::handle x, nb::handle h, const nb::list& weights, double keep, nb::handle frozen) {
  StepCall call;
  call.read_frozen(frozen, weights);
  call.is_cell = true;
  call.keep = keep;
  Reader reader(/*measures=*/false);
  if (!read_plain(call, x, h, weights, reader)) return nb::none();
  View next;
  nb::object made = call.new_output(next);
  run(call, nullptr, next.data);
  return made;
}

}  // namespace

bool StepCall::read_input(nb::handle input, const nb::list& all_weights, int64_t most, Reader& reader) {
  if (static_cast<int64_t>(all_weights.size()) != count() || !is_plain(input)) return false;
  View header;
  if (!read_header(input, header) || header.dtype.code != dlpack::kFloat || header.dtype.bits < 32) return false;
  if (header.ndim < 1 || (header.ndim == 3 && (is_cell || header.sizes[0] != 1))) return false;
  B = header.ndim == 1 ? 1 : header.sizes[static_cast<size_t>(header.ndim) - 2];
  if (B < 1 || B > most) return false;
  like_ = input;
  is_dense_x_ = header.is_dense() && header.data != nullptr;
  x = reader.read(input, "x", Layout::dense);
  I = x.sizes[static_cast<size_t>(x.ndim) - 1];
  if (!read_header(all_weights[0], header) || header.ndim != 2) return false;
  H = header.sizes[0] / 3;
  return H >= 1 && I >= 1;
}

void StepCall::read_frozen(nb::handle owners, const nb::list& all_weights) {
  if (owners.is_none()) return;
  for (const nb::handle owner : owners) frozen.push_back(&nb::cast<const PackedOwner&>(owner));
  if (static_cast<int64_t>(frozen.size()) != L) throw nb::value_error("frozen must be one owner for each layer");
  std::vector<int64_t> counted;
  for (const PackedOwner* owner : frozen) {
    if (!owner->frozen()) continue;  // of half precision, which comes here as copies
    counted.insert(counted.end(), owner->versions().begin(), owner->versions().end());
  }
  doubts = counted != versions_of(all_weights);
}

bool StepCall::read_weights(const nb::list& all_weights, Reader& reader) {
  weights.resize(all_weights.size());
  for (int64_t i = 0; i < count(); ++i) {
    View view;
    const nb::handle weight = all_weights[static_cast<size_t>(i)];
    const bool fits = columns(i) > 0 ? read_as(weight, "a weight", {3 * H, columns(i)}, reader, view)
                                     : read_as(weight, "a weight", {3 * H}, reader, view);
    if (!fits) return false;
    weights[static_cast<size_t>(i)] = view.data;
  }
  return true;
}

bool StepCall::read_state(nb::handle states, Reader& reader) {
  if (states.is_none()) return true;
  View header;
  if (!read_header(states, header) || !read_states(states, "the state", reader, state)) return false;
  if (header.is_dense() && header.data != nullptr) like_states_ = states;
  return true;
}

bool StepCall::read_as(nb::handle tensor, const char* name, std::initializer_list<int64_t> sizes, Reader& reader,
                       View& view) const {
  if (!read_header(tensor, view)) return false;
  view = reader.read(tensor, name, Layout::dense);
  return view.dtype.code == x.dtype.code && view.dtype.bits == x.dtype.bits && view.has_sizes(sizes);
}

bool StepCall::read_rows(nb::handle tensor, const char* name, int64_t width, Reader& reader, View& view) const {
  if (x.ndim == 1) return read_as(tensor, name, {width}, reader, view);
  if (x.ndim == 2) return read_as(tensor, name, {B, width}, reader, view);
  return read_as(tensor, name, {1, B, width}, reader, view);
}

bool StepCall::read_output(nb::handle tensor, const char* name, Reader& reader, View& view) const {
  return read_rows(tensor, name, D * H, reader, view);
}

bool StepCall::read_states(nb::handle tensor, const char* name, Reader& reader, View& view) const {
  if (is_cell) return read_output(tensor, name, reader, view);
  return is_batched() ? read_as(tensor, name, {L * D, B, H}, reader, view)
                      : read_as(tensor, name, {L * D, H}, reader, view);
}

nb::object StepCall::new_rows(int64_t width, View& view) const {
  if (x.ndim == 1) return new_empty(like_, {width}, view);
  if (x.ndim == 2) return new_empty(like_, {B, width}, view);
  return new_empty(like_, {1, B, width}, view);
}

nb::object StepCall::new_states(View& view) const {
  if (like_states_.is_valid()) return empty_like(like_states_, view);
  if (is_cell) return new_rows(H, view);
  return is_batched() ? new_empty(like_, {L * D, B, H}, view) : new_empty(like_, {L * D, H}, view);
}

void define_step(nb::module_& m) {
  m.def("step", &step, "x"_a, "state"_a.none(), "weights"_a, "layers"_a, "keep"_a, "frozen"_a = nb::none(),
        "One step without gradients of one or two sequences, or some more where `frozen` is each layer's PackedWeights, "
        "not None. x [I], [B, I] or [1, B, I]; state [L, H] beside [I], "
        "otherwise [L, B, H], or None: zeros; weights: layer by layer; keep: m of h' = h + m * (h~ - h). Returns y in "
        "the form of x and the next state, or None, having done nothing, where the tensors are not such: on a CPU, "
        "all float32 or all float64, of sizes that fit together. RuntimeError where one's memory was freed.");
  m.def("cell_step", &cell_step, "x"_a, "h"_a.none(), "weights"_a, "keep"_a, "frozen"_a = nb::none(),
        "As step, for a cell: x [I] or [B, I]; h [H] or [B, H], or None: zeros. Returns the next h.");
}

}  // namespace fastgru::binding
