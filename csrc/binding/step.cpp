#include "step.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "dispatch.h"
#include "dlpack.h"
#include "gru.h"
#include "memory.h"
#include "threads.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace fastgru {
namespace {

constexpr int64_t kMaxLayers = 16, kMaxBatch = 2;
// Products beyond which other Python threads may run meanwhile, some 25 us: to get the interpreter back may take
// milliseconds where one of them computes.
constexpr int64_t kLongStep = 1 << 20;

struct Shape {
  int32_t ndim;
  std::array<int64_t, 3> sizes;

  int64_t last() const noexcept { return sizes[static_cast<size_t>(ndim) - 1]; }

  bool is_of(const dlpack::Tensor& tensor) const noexcept {
    return tensor.ndim == ndim && std::equal(tensor.shape, tensor.shape + ndim, sizes.begin());
  }
};

// What a step reads, all of it checked.
struct Call {
  int64_t L, B, I, H;
  Shape x_shape;
  uint8_t bits;
  double keep;
  const void *x, *state;  // [B, I]; [L, B, H] or null: zero
  std::array<const void*, 4 * kMaxLayers> weights;
  int64_t per_layer;  // 4, or 2 without bias

  int64_t products() const noexcept { return B * 3 * H * (I + H + (L - 1) * 2 * H); }
};

bool is_dense(const dlpack::Tensor& tensor) noexcept {
  int64_t stride = 1;
  for (int32_t i = tensor.ndim - 1; i >= 0; --i) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != stride) return false;
    stride *= tensor.shape[i];
  }
  return true;
}

template <class Real>
void run_layers(const Call& call, Real* y, Real* h_n) {
  static thread_local Arena arena;
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
    args.x = {l == 0 ? static_cast<const Real*>(call.x) : h_n + (l - 1) * layer, 0, args.I};
    args.h0 = call.state ? static_cast<const Real*>(call.state) + l * layer : nullptr;
    args.y = {l == call.L - 1 ? y : nullptr, 0, call.H};
    args.h_n = h_n + l * layer;
    const auto bytes = static_cast<size_t>(kernels.forward_scratch(args, 1)) * sizeof(Real);
    kernels.forward(args, static_cast<Real*>(arena.reserve(bytes)), Team{0, 1, nullptr, {nullptr, nullptr}});
  }
  arena.trim();
}

// torch's tensors, as use_tensors said.
struct Tensors {
  PyObject *tensor, *parameter;  // the types that are taken, no subclass of them
  int (*read)(void* py_object, dlpack::Tensor* out);
};

Tensors tensors{};

void use_tensors(nb::handle tensor, nb::handle parameter) {
  const nb::object api = nb::getattr(tensor, "__dlpack_c_exchange_api__");
  auto* table = static_cast<dlpack::ExchangeApi*>(PyCapsule_GetPointer(api.ptr(), dlpack::kCapsule));
  if (table == nullptr) throw nb::python_error();
  while (table != nullptr && table->version.major != dlpack::kMajor) table = table->previous;
  if (table == nullptr || table->dltensor_from_py_object_no_sync == nullptr) {
    throw nb::value_error("this torch has no DLPack 1 exchange table that reads tensors in place");
  }
  tensors = {tensor.inc_ref().ptr(), parameter.inc_ref().ptr(), table->dltensor_from_py_object_no_sync};
}

// Of the types that are taken, without the negation that torch may put off and DLPack does not tell of.
bool is_plain(nb::handle object) {
  const auto* type = reinterpret_cast<const PyObject*>(Py_TYPE(object.ptr()));
  if (type != tensors.tensor && type != tensors.parameter) return false;
  static PyObject* const name = PyUnicode_InternFromString("is_neg");
  PyObject* negated = PyObject_CallMethodNoArgs(object.ptr(), name);
  if (negated == nullptr) throw nb::python_error();
  return nb::steal(negated).ptr() == Py_False;
}

bool are_plain(nb::handle x, nb::handle state, const nb::list& weights) {
  if (!is_plain(x) || !(state.is_none() || is_plain(state))) return false;
  for (const nb::handle weight : weights) {
    if (!is_plain(weight)) return false;
  }
  return true;
}

// False, with no exception set, where the kernels cannot take it as it lies.
bool read_dense(nb::handle object, dlpack::Tensor& tensor) {
  if (tensors.read(object.ptr(), &tensor) != 0) {
    PyErr_Clear();
    return false;
  }
  return tensor.device.type == dlpack::kCpu && tensor.dtype.code == dlpack::kFloat && tensor.dtype.lanes == 1 &&
         tensor.ndim >= 1 && tensor.data != nullptr && is_dense(tensor);
}

// What outputs depend on: of x [I], [B, I] or [1, B, I] and the first weight [3H, I].
bool read_sizes(nb::handle x, const nb::list& weights, Call& call) {
  const auto count = static_cast<int64_t>(weights.size());
  if (call.L < 1 || call.L > kMaxLayers) return false;
  call.per_layer = count / call.L;
  if ((call.per_layer != 2 && call.per_layer != 4) || count != call.L * call.per_layer) return false;
  dlpack::Tensor tensor{}, weight{};
  if (!read_dense(x, tensor) || !read_dense(weights[0], weight)) return false;
  if (tensor.ndim > 3 || (tensor.ndim == 3 && tensor.shape[0] != 1)) return false;
  call.x_shape.ndim = tensor.ndim;
  std::copy(tensor.shape, tensor.shape + tensor.ndim, call.x_shape.sizes.begin());
  call.bits = tensor.dtype.bits;
  call.I = call.x_shape.last();
  call.B = tensor.ndim == 1 ? 1 : tensor.shape[tensor.ndim - 2];
  call.H = weight.shape[0] / 3;
  return (call.bits == 32 || call.bits == 64) && call.B <= kMaxBatch && call.H >= 1;
}

// The output of an input: its last size is H.
Shape output_shape(const Call& call) {
  Shape shape = call.x_shape;
  shape.sizes[static_cast<size_t>(shape.ndim) - 1] = call.H;
  return shape;
}

// Where a tensor of this shape lies.
bool read_tensor(nb::handle object, const Call& call, const Shape& shape, const void*& at) {
  dlpack::Tensor tensor{};
  if (!read_dense(object, tensor) || tensor.dtype.bits != call.bits || !shape.is_of(tensor)) return false;
  at = static_cast<const char*>(tensor.data) + tensor.byte_offset;
  return true;
}

// All addresses. Nothing here gives the interpreter away.
bool read(nb::handle x, nb::handle state, const Shape& state_shape, const nb::list& weights, Call& call) {
  if (!read_tensor(x, call, call.x_shape, call.x)) return false;
  if (!state.is_none() && !read_tensor(state, call, state_shape, call.state)) return false;
  size_t i = 0;
  for (const nb::handle weight : weights) {
    const int64_t kind = static_cast<int64_t>(i) % call.per_layer, rows = 3 * call.H;  // w_ih, w_hh, b_ih, b_hh
    const Shape shape{kind < 2 ? 2 : 1, {rows, i == 0 ? call.I : call.H}};
    if (!read_tensor(weight, call, shape, call.weights[i++])) return false;
  }
  return true;
}

// x.new_empty(*shape)
nb::object new_empty(nb::handle x, const Shape& shape) {
  static PyObject* const name = PyUnicode_InternFromString("new_empty");
  std::array<nb::object, 3> sizes;
  std::array<PyObject*, 4> arguments{x.ptr()};
  const auto count = static_cast<size_t>(shape.ndim);
  for (size_t i = 0; i < count; ++i) {
    sizes[i] = nb::steal(PyLong_FromLongLong(shape.sizes[i]));
    arguments[i + 1] = sizes[i].ptr();
  }
  PyObject* made = PyObject_VectorcallMethod(name, arguments.data(), count + 1, nullptr);
  if (made == nullptr) throw nb::python_error();
  return nb::steal(made);
}

void* written(nb::handle made) {
  dlpack::Tensor tensor{};
  if (tensors.read(made.ptr(), &tensor) != 0) throw nb::python_error();
  return static_cast<char*>(tensor.data) + tensor.byte_offset;
}

void run_typed(const Call& call, void* y, void* h_n) {
  if (call.bits == 32) return run_layers(call, static_cast<float*>(y), static_cast<float*>(h_n));
  run_layers(call, static_cast<double*>(y), static_cast<double*>(h_n));
}

void run(const Call& call, void* y, void* h_n) {
  if (call.products() <= kLongStep) return run_typed(call, y, h_n);
  const nb::gil_scoped_release release;
  run_typed(call, y, h_n);
}

nb::object step(nb::handle x, nb::handle state, const nb::list& weights, int64_t layers, double keep) {
  Call call{};
  call.L = layers;
  call.keep = keep;
  if (!are_plain(x, state, weights) || !read_sizes(x, weights, call)) return nb::none();
  const bool batched = call.x_shape.ndim > 1;
  const Shape state_shape{batched ? 3 : 2, {call.L, batched ? call.B : call.H, call.H}};
  nb::object y = new_empty(x, output_shape(call)), h_n = new_empty(x, state_shape);
  if (!read(x, state, state_shape, weights, call)) return nb::none();
  run(call, written(y), written(h_n));
  return nb::make_tuple(std::move(y), std::move(h_n));
}

nb::object cell_step(nb::handle x, nb::handle h, const nb::list& weights) {
  Call call{};
  call.L = 1;
  call.keep = 1;
  if (!are_plain(x, h, weights) || !read_sizes(x, weights, call) || call.x_shape.ndim > 2) return nb::none();
  const Shape shape = output_shape(call);
  nb::object next = new_empty(x, shape);
  if (!read(x, h, shape, weights, call)) return nb::none();
  run(call, nullptr, written(next));
  return next;
}

}  // namespace

void define_stepper(nb::module_& m) {
  m.def("use_tensors", &use_tensors, "tensor"_a, "parameter"_a,
        "Torch's types, to be told once. ValueError if they cannot be read in place.");
  m.def("step", &step, "x"_a, "state"_a.none(), "weights"_a, "layers"_a, "keep"_a,
        "One step without gradients of one or two sequences. x [I], [B, I] or [1, B, I]; state [L, H] beside [I], "
        "otherwise [L, B, H], or None: zeros; weights: layer by layer; keep: m of h' = h + m * (h~ - h). Returns y in "
        "the form of x and the next state, or None, having done nothing, where the tensors are not such: on a CPU, "
        "dense, all float32 or all float64, of sizes that fit together.");
  m.def("cell_step", &cell_step, "x"_a, "h"_a.none(), "weights"_a,
        "As step, for a cell: x [I] or [B, I]; h [H] or [B, H], or None: zeros. Returns the next h.");
}

}  // namespace fastgru
