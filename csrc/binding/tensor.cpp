#include "tensor.h"

#include <nanobind/stl/string.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>

#include "threads.h"

namespace fastgru::binding {
namespace {

using Read = int(void* py_object, dlpack::Tensor* out);

// torch's types, as use_tensors said, and methods of theirs: calling these spares a look-up each. Never freed.
struct Torch {
  PyObject *tensor, *parameter;
  Read* read;  // null: through Python
  PyObject *is_neg, *is_zero, *new_empty, *empty_like, *storage, *storage_offset, *nbytes;
};

// Until use_tensors was called nothing is a tensor. Set as a whole: threads that read it hold no lock.
constexpr Torch kUntold{};
std::atomic<const Torch*> told{&kUntold};

const Torch& torch() noexcept { return *told.load(std::memory_order_acquire); }

nb::object checked(PyObject* made) {
  if (made == nullptr) throw nb::python_error();
  return nb::steal(made);
}

nb::object call_plain(nb::handle object, PyObject* method) {
  PyObject* arguments[] = {object.ptr()};
  return checked(PyObject_Vectorcall(method, arguments, 1, nullptr));
}

bool is_true(nb::handle object, PyObject* method) { return call_plain(object, method).ptr() == Py_True; }

bool is_negated(nb::handle object) { return is_true(object, torch().is_neg); }

bool is_tensor(nb::handle object) noexcept {
  if (is_plain(object)) return true;
  return torch().tensor != nullptr && PyObject_IsInstance(object.ptr(), torch().tensor) == 1;
}

std::string words_of(nb::handle object) { return nb::cast<std::string>(nb::str(object)); }

struct Named {
  const char* name;
  dlpack::DataType dtype;
};

constexpr Named kDtypes[] = {{"float32", {dlpack::kFloat, 32, 1}}, {"float64", {dlpack::kFloat, 64, 1}},
                             {"float16", {dlpack::kFloat, 16, 1}}, {"bfloat16", {dlpack::kBfloat, 16, 1}},
                             {"int64", {dlpack::kInt, 64, 1}},     {"int32", {dlpack::kInt, 32, 1}},
                             {"int16", {dlpack::kInt, 16, 1}},     {"int8", {dlpack::kInt, 8, 1}},
                             {"uint8", {dlpack::kUInt, 8, 1}},     {"bool", {dlpack::kBool, 8, 1}}};

bool is_same(dlpack::DataType a, dlpack::DataType b) noexcept {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

// As the exchange table reads, a microsecond slower. Raises where the tensor has no strides or no memory of its own.
bool read_through_python(nb::handle object, View& view) {
  const nb::object layout = nb::getattr(object, "layout"), device = nb::getattr(object, "device");
  if (words_of(layout) != "torch.strided" || words_of(nb::getattr(device, "type")) != "cpu") return false;
  const std::string dtype = words_of(nb::getattr(object, "dtype"));
  const nb::object sizes = nb::getattr(object, "shape"), strides = call(object, "stride");
  const auto count = static_cast<int32_t>(nb::len(sizes));
  if (count > kMaxDims) return false;
  view.ndim = count;
  for (int32_t i = 0; i < count; ++i) {
    view.sizes[static_cast<size_t>(i)] = nb::cast<int64_t>(sizes[i]);
    view.strides[static_cast<size_t>(i)] = nb::cast<int64_t>(strides[i]);
  }
  view.dtype = {dlpack::kOpaque, 0, 1};
  for (const Named& known : kDtypes) {
    if (dtype == std::string("torch.") + known.name) view.dtype = known.dtype;
  }
  view.data = reinterpret_cast<void*>(nb::cast<uintptr_t>(call(object, "data_ptr")));
  return view.there = true;
}

// False where it is not in memory of the CPU or has too many dimensions; may raise as well.
bool read_memory(nb::handle object, View& view) {
  const auto read = torch().read;
  if (read == nullptr) return read_through_python(object, view);
  dlpack::Tensor tensor{};
  if (read(object.ptr(), &tensor) != 0) throw nb::python_error();
  if (tensor.device.type != dlpack::kCpu || tensor.ndim > kMaxDims) return false;
  view.data = tensor.data == nullptr ? nullptr : static_cast<char*>(tensor.data) + tensor.byte_offset;
  view.dtype = tensor.dtype;
  view.ndim = tensor.ndim;
  std::copy(tensor.shape, tensor.shape + tensor.ndim, view.sizes.begin());
  std::copy(tensor.strides, tensor.strides + tensor.ndim, view.strides.begin());
  return view.there = true;
}

// In words, for one that read_memory could not read.
[[noreturn]] void refuse_memory(nb::handle object, const std::string& name, const std::string& reason) {
  const std::string device = words_of(nb::getattr(object, "device")), layout = words_of(nb::getattr(object, "layout"));
  throw std::runtime_error(name + " must be a dense tensor of at most 3 dimensions in memory of the CPU, got " +
                           words_of(nb::getattr(object, "shape")) + " on " + device + " (" + layout + ")" +
                           (reason.empty() ? "" : ": " + reason));
}

View read_or_refuse(nb::handle object, const std::string& name) {
  View view;
  std::string reason;
  try {
    if (read_memory(object, view)) return view;
  } catch (const nb::python_error& error) {
    reason = words_of(error.value());
  }
  refuse_memory(object, name, reason);
}

int64_t number_of(nb::handle object, PyObject* method) {
  const nb::object found = call_plain(object, method);
  const int64_t number = PyLong_AsLongLong(found.ptr());
  if (number == -1 && PyErr_Occurred()) throw nb::python_error();
  return number;
}

// Whether all elements lie inside of the storage. DLPack tells where the first one lies, and nothing of the rest.
bool fits_storage(nb::handle object, const View& view) {
  int64_t last = 0;
  for (int32_t i = 0; i < view.ndim; ++i) {
    const auto dim = static_cast<size_t>(i);
    if (view.sizes[dim] == 0) return true;
    last += (view.sizes[dim] - 1) * view.strides[dim];
  }
  const int64_t bytes = number_of(call_plain(object, torch().storage), torch().nbytes);
  return (number_of(object, torch().storage_offset) + last + 1) * (view.dtype.bits / 8) <= bytes;
}

// Of torch's exchange table; null where this torch has none, or one of another kind.
Read* reader_of(nb::handle tensor) {
  if (!nb::hasattr(tensor, "__dlpack_c_exchange_api__")) return nullptr;
  const nb::object api = nb::getattr(tensor, "__dlpack_c_exchange_api__");
  auto* table = static_cast<dlpack::ExchangeApi*>(PyCapsule_GetPointer(api.ptr(), dlpack::kCapsule));
  if (table == nullptr) throw nb::python_error();
  while (table != nullptr && table->version.major != dlpack::kMajor) table = table->previous;
  return table == nullptr ? nullptr : table->dltensor_from_py_object_no_sync;
}

// A tensor of zeros that has no memory, which torch makes where a tangent is zero.
bool is_zero_tensor(nb::handle object, const View& view) {
  return view.data == nullptr && is_true(object, torch().is_zero);
}

}  // namespace

bool View::has_sizes(std::initializer_list<int64_t> of) const noexcept {
  return static_cast<size_t>(ndim) == of.size() && std::equal(of.begin(), of.end(), sizes.begin());
}

bool View::is_dense() const noexcept {
  int64_t stride = 1;
  for (int32_t i = ndim - 1; i >= 0; --i) {
    const auto dim = static_cast<size_t>(i);
    if (sizes[dim] != 1 && strides[dim] != stride) return false;
    stride *= sizes[dim];
  }
  return true;
}

void use_tensors(nb::handle tensor, nb::handle parameter, nb::handle storage, bool in_place) {
  const auto method = [&](const char* name) { return nb::getattr(tensor, name).release().ptr(); };
  auto* known = new Torch{tensor.inc_ref().ptr(),
                         parameter.inc_ref().ptr(),
                         nullptr,
                         method("is_neg"),
                         method("_is_zerotensor"),
                         method("new_empty"),
                         nb::getattr(nb::module_::import_("torch"), "empty_like").release().ptr(),
                         method("untyped_storage"),
                         method("storage_offset"),
                         nb::getattr(storage, "nbytes").release().ptr()};
  if (in_place) known->read = reader_of(tensor);
  told.store(known, std::memory_order_release);
  use_threads_of_torch();
}

bool is_plain(nb::handle object) noexcept {
  const auto* type = reinterpret_cast<const PyObject*>(Py_TYPE(object.ptr()));
  return type == torch().tensor || type == torch().parameter;
}

bool read_header(nb::handle object, View& view) {
  if (!is_plain(object)) return false;
  try {
    return read_memory(object, view);
  } catch (const nb::python_error&) {
    return false;  // sparse, wrapped by a transform: whoever asks finds words for it
  }
}

nb::handle Reader::hold(nb::object made) { return held_.emplace_back(std::move(made)); }

void Reader::check_storage(nb::handle object, const std::string& name, const View& view) const {
  if ((view.data != nullptr && !measures_) || fits_storage(object, view)) return;
  throw std::runtime_error(name + " of " + described(view) +
                           " is larger than its storage, which was freed or made smaller (as untyped_storage().resize_"
                           "() and sharded training do); bring its memory back before it is used");
}

View Reader::read(nb::handle object, const std::string& name, Layout layout) {
  if (!is_tensor(object)) {
    throw nb::type_error((name + " must be a tensor, got a " + class_of(object)).c_str());
  }
  if (is_negated(object)) object = hold(call(object, "resolve_neg"));
  View view = read_or_refuse(object, name);
  if (is_zero_tensor(object, view)) {
    object = hold(call(object, "clone"));
    view = read_or_refuse(object, name);
  }
  check_storage(object, name, view);
  const bool copies = layout == Layout::dense ? !view.is_dense() : layout == Layout::rows && !view.has_dense_rows();
  if (view.ndim == 0 || !copies) return view;
  return read_or_refuse(hold(call(object, "contiguous")), name);
}

View Reader::fetch(nb::handle object, const std::string& name, Layout layout) {
  if (is_tensor(object) && !nb::cast<bool>(nb::getattr(object, "is_cpu"))) object = hold(call(object, "cpu"));
  return read(object, name, layout);
}

View Reader::read_if_there(nb::handle tensor, const std::string& name, Layout layout) {
  return tensor.is_none() ? View{} : read(tensor, name, layout);
}

std::string class_of(nb::handle object) { return words_of(nb::getattr(object.type(), "__name__")); }

nb::object call(nb::handle object, const char* method) { return nb::getattr(object, method)(); }

nb::object new_empty(nb::handle like, std::initializer_list<int64_t> sizes, View& view) {
  std::array<nb::object, kMaxDims> numbers;
  std::array<PyObject*, kMaxDims + 1> arguments{like.ptr()};
  size_t count = 0;
  for (const int64_t size : sizes) {
    numbers[count] = checked(PyLong_FromLongLong(size));
    arguments[count + 1] = numbers[count].ptr();
    ++count;
  }
  nb::object made = checked(PyObject_Vectorcall(torch().new_empty, arguments.data(), count + 1, nullptr));
  if (!read_memory(made, view)) throw std::runtime_error("new_empty gave a tensor that is not in memory of the CPU");
  return made;
}

nb::object empty_like(nb::handle dense, View& view) {
  nb::object made = call_plain(dense, torch().empty_like);
  if (!read_memory(made, view)) throw std::runtime_error("empty_like gave a tensor that is not in memory of the CPU");
  return made;
}

std::string described(std::initializer_list<int64_t> sizes) {
  std::string words;
  for (const int64_t size : sizes) words += (words.empty() ? "" : ", ") + std::to_string(size);
  return "[" + words + "]";
}

std::string described(const View& view) {
  std::string words;
  for (int32_t i = 0; i < view.ndim; ++i) {
    words += (i == 0 ? "" : ", ") + std::to_string(view.sizes[static_cast<size_t>(i)]);
  }
  std::string dtype = "another dtype";
  for (const Named& known : kDtypes) {
    if (is_same(known.dtype, view.dtype)) dtype = known.name;
  }
  return "[" + words + "] " + dtype;
}

void refuse(const std::string& name, const std::string& expected, const View& view) {
  throw nb::value_error((name + " must be " + expected + ", got " + (view.there ? described(view) : "None")).c_str());
}

}  // namespace fastgru::binding
