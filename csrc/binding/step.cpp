#include "step.h"

#include <array>
#include <cstdint>

#include "dispatch.h"
#include "gru.h"
#include "passes.h"
#include "tensor.h"

using namespace nanobind::literals;

namespace fastgru::binding {
namespace {

constexpr int64_t kMaxLayers = 16, kMaxBatch = 2;

// What a step reads, all of it checked.
struct Call {
  int64_t L, B, I, H;
  View x, state;  // [I], [B, I] or [1, B, I]; [L, B, H], [L, H] or not there: zero
  double keep;
  std::array<const void*, 4 * kMaxLayers> weights;
  int64_t per_layer;  // 4, or 2 without bias

  int64_t products() const noexcept { return B * 3 * H * (I + H + (L - 1) * 2 * H); }
  bool is_batched() const noexcept { return x.ndim > 1; }
};

template <class Real>
void run_layers(const Call& call, Real* y, Real* h_n) {
  const Kernels<Real>& kernels = active_kernels<Real>();
  const int64_t layer = call.B * call.H;
  ForwardArgs<Real> args{};
  args.H = call.H;
  args.D = 1;
  args.form = Form::after;
  args.steps = {1, call.B, nullptr, nullptr, nullptr, nullptr, nullptr};
  args.noise.keep = static_cast<Real>(call.keep);
  for (int64_t l = 0; l < call.L; ++l) {
    const auto at = [&](int64_t i) {
      return i < call.per_layer ? static_cast<const Real*>(call.weights[static_cast<size_t>(l * call.per_layer + i)])
                                : nullptr;
    };
    args.I = l == 0 ? call.I : call.H;
    args.parameters[0] = {at(0), at(1), at(2), at(3), nullptr, nullptr};
    args.x = {l == 0 ? static_cast<const Real*>(call.x.data) : h_n + (l - 1) * layer, 0, args.I};
    args.h0 = call.state.there ? static_cast<const Real*>(call.state.data) + l * layer : nullptr;
    args.y = {l == call.L - 1 ? y : nullptr, 0, call.H};
    args.h_n = h_n + l * layer;
    run_kernel(args, kernels.forward_scratch(args, 1), 1, kernels.forward);
  }
}

// Of x's dtype; false where another way must be taken.
bool read_like(const Call& call, Reader& reader, nb::handle tensor, const char* name, View& view) {
  if (!is_plain(tensor)) return false;
  view = reader.read(tensor, name, Layout::dense);
  return view.dtype.code == call.x.dtype.code && view.dtype.bits == call.x.dtype.bits;
}

// What outputs depend on: x, and of the first weight [3H, I] its rows.
bool read_sizes(nb::handle x, const nb::list& weights, Reader& reader, Call& call) {
  const auto count = static_cast<int64_t>(weights.size());
  if (call.L < 1 || call.L > kMaxLayers || !is_plain(x)) return false;
  call.per_layer = count / call.L;
  if ((call.per_layer != 2 && call.per_layer != 4) || count != call.L * call.per_layer) return false;
  View header;
  if (!read_header(x, header) || header.dtype.code != dlpack::kFloat || header.dtype.bits < 32) return false;
  if (header.ndim < 1 || (header.ndim == 3 && header.sizes[0] != 1)) return false;
  call.B = header.ndim == 1 ? 1 : header.sizes[static_cast<size_t>(header.ndim) - 2];
  if (call.B < 1 || call.B > kMaxBatch) return false;
  call.x = reader.read(x, "x", Layout::dense);
  call.I = call.x.sizes[static_cast<size_t>(call.x.ndim) - 1];
  if (!read_header(weights[0], header) || header.ndim != 2) return false;
  call.H = header.sizes[0] / 3;
  return call.H >= 1 && call.I >= 1;
}

bool read_weights(const nb::list& weights, Reader& reader, Call& call) {
  for (size_t i = 0; i < weights.size(); ++i) {
    const int64_t kind = static_cast<int64_t>(i) % call.per_layer, rows = 3 * call.H;  // w_ih, w_hh, b_ih, b_hh
    View view;
    if (!read_like(call, reader, weights[i], "a weight", view)) return false;
    const bool fits = kind < 2 ? view.has_sizes({rows, i == 0 ? call.I : call.H}) : view.has_sizes({rows});
    if (!fits) return false;
    call.weights[i] = view.data;
  }
  return true;
}

bool read_state(nb::handle state, Reader& reader, bool has_layers, Call& call) {
  if (state.is_none()) return true;
  if (!read_like(call, reader, state, "the state", call.state)) return false;
  if (!has_layers) return call.is_batched() ? call.state.has_sizes({call.B, call.H}) : call.state.has_sizes({call.H});
  return call.is_batched() ? call.state.has_sizes({call.L, call.B, call.H}) : call.state.has_sizes({call.L, call.H});
}

// In the form of x.
nb::object new_output(nb::handle x, const Call& call, View& view) {
  if (call.x.ndim == 1) return new_empty(x, {call.H}, view);
  if (call.x.ndim == 2) return new_empty(x, {call.B, call.H}, view);
  return new_empty(x, {1, call.B, call.H}, view);
}

void run(const Call& call, void* y, void* h_n) {
  run_unlocked(call.products(), [&] {
    call.x.dtype.bits == 32 ? run_layers(call, static_cast<float*>(y), static_cast<float*>(h_n))
                            : run_layers(call, static_cast<double*>(y), static_cast<double*>(h_n));
  });
}

nb::object step(nb::handle x, nb::handle state, const nb::list& weights, int64_t layers, double keep) {
  Reader reader(/*measures=*/false);
  Call call{};
  call.L = layers;
  call.keep = keep;
  const bool fits = read_sizes(x, weights, reader, call) && read_weights(weights, reader, call) &&
                    read_state(state, reader, true, call);
  if (!fits) return nb::none();
  View y, h_n;
  nb::object made = new_output(x, call, y);
  nb::object next = call.is_batched() ? new_empty(x, {call.L, call.B, call.H}, h_n) : new_empty(x, {call.L, call.H}, h_n);
  run(call, y.data, h_n.data);
  return nb::make_tuple(std::move(made), std::move(next));
}

nb::object cell_step(nb::handle x, nb::handle h, const nb::list& weights) {
  Reader reader(/*measures=*/false);
  Call call{};
  call.L = 1;
  call.keep = 1;
  const bool fits = read_sizes(x, weights, reader, call) && call.x.ndim < 3 && read_weights(weights, reader, call) &&
                    read_state(h, reader, false, call);
  if (!fits) return nb::none();
  View next;
  nb::object made = new_output(x, call, next);
  run(call, nullptr, next.data);
  return made;
}

}  // namespace

void define_step(nb::module_& m) {
  m.def("step", &step, "x"_a, "state"_a.none(), "weights"_a, "layers"_a, "keep"_a,
        "One step without gradients of one or two sequences. x [I], [B, I] or [1, B, I]; state [L, H] beside [I], "
        "otherwise [L, B, H], or None: zeros; weights: layer by layer; keep: m of h' = h + m * (h~ - h). Returns y in "
        "the form of x and the next state, or None, having done nothing, where the tensors are not such: on a CPU, "
        "all float32 or all float64, of sizes that fit together. RuntimeError where one's memory was freed.");
  m.def("cell_step", &cell_step, "x"_a, "h"_a.none(), "weights"_a,
        "As step, for a cell: x [I] or [B, I]; h [H] or [B, H], or None: zeros. Returns the next h.");
}

}  // namespace fastgru::binding
