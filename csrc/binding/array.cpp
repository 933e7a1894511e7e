#include "array.h"

#include <nanobind/stl/string.h>

#include <algorithm>
#include <cstring>

namespace fastgru::binding {
namespace {

// What a format of the struct module is, in the machine's own byte order; kOpaque where it is none of ours.
dlpack::DataType dtype_of(const Py_buffer& buffer) noexcept {
  const char* format = buffer.format == nullptr ? "B" : buffer.format;
  if (*format == '@' || *format == '=') ++format;
  const auto bits = static_cast<uint8_t>(8 * buffer.itemsize);
  if (std::strlen(format) != 1 || buffer.itemsize > 8) return {dlpack::kOpaque, bits, 1};
  if (std::strchr("efd", *format)) return {dlpack::kFloat, bits, 1};
  if (std::strchr("bhilqn", *format)) return {dlpack::kInt, bits, 1};
  if (std::strchr("BHILQN", *format)) return {dlpack::kUInt, bits, 1};
  if (*format == '?') return {dlpack::kBool, bits, 1};
  return {dlpack::kOpaque, bits, 1};
}

bool is_same(dlpack::DataType a, dlpack::DataType b) noexcept { return a.code == b.code && a.bits == b.bits; }

std::string name_of(dlpack::DataType dtype) {
  View scalar;
  scalar.dtype = dtype;
  const std::string words = described(scalar);  // "[] float32"
  return words.substr(words.rfind(' ') + 1);
}

}  // namespace

Array::Array(nb::handle object, const char* name, Access access) : name_(name) {
  const int flags = PyBUF_STRIDES | PyBUF_FORMAT | (access == Access::write ? PyBUF_WRITABLE : 0);
  if (PyObject_GetBuffer(object.ptr(), &buffer_, flags) != 0) {
    nb::python_error error;  // takes the error away
    throw nb::type_error((std::string(name) + " must be " + (access == Access::write ? "a writable" : "an") +
                          " array, as NumPy's are, got " + class_of(object) + " (" +
                          nb::cast<std::string>(nb::str(error.value())) + ")")
                             .c_str());
  }
  view_.there = true;
  view_.data = buffer_.buf;
  view_.dtype = dtype_of(buffer_);
  view_.ndim = buffer_.ndim;
  bool is_whole = reinterpret_cast<uintptr_t>(buffer_.buf) % static_cast<size_t>(std::max<Py_ssize_t>(buffer_.itemsize, 1)) == 0;
  if (buffer_.ndim <= kMaxDims) {
    for (int i = 0; i < buffer_.ndim; ++i) {
      view_.sizes[static_cast<size_t>(i)] = buffer_.shape[i];
      is_whole = is_whole && buffer_.strides[i] % buffer_.itemsize == 0;
      view_.strides[static_cast<size_t>(i)] = buffer_.strides[i] / buffer_.itemsize;
    }
    if (is_whole) return;
  }
  const int dims = buffer_.ndim;
  PyBuffer_Release(&buffer_);
  throw nb::value_error((dims > kMaxDims ? std::string(name) + " must have at most 3 dimensions, got " + std::to_string(dims)
                                         : std::string(name) + " must lie in whole elements: give a copy of it")
                            .c_str());
}

void Array::expect(dlpack::DataType dtype, std::initializer_list<int64_t> sizes) const {
  if (!is_same(view_.dtype, dtype)) {
    throw nb::type_error((std::string(name_) + " must be " + name_of(dtype) + ", got " + described(view_)).c_str());
  }
  if (!view_.has_sizes(sizes)) refuse(name_, described(sizes), view_);
}

void Array::expect_dense(dlpack::DataType dtype, std::initializer_list<int64_t> sizes) const {
  expect(dtype, sizes);
  if (!view_.is_dense()) throw nb::value_error((std::string(name_) + " must lie in one piece: give a copy of it").c_str());
}

bool Array::overlaps(const Array& other) const noexcept {
  const auto ends = [](const Array& array, const char*& first, const char*& last) {
    first = last = static_cast<const char*>(array.view_.data);
    for (int32_t i = 0; i < array.view_.ndim; ++i) {
      const auto at = static_cast<size_t>(i);
      if (array.view_.sizes[at] == 0) return false;
      const int64_t reach = (array.view_.sizes[at] - 1) * array.view_.strides[at] * array.buffer_.itemsize;
      (reach < 0 ? first : last) += reach;
    }
    last += array.buffer_.itemsize;
    return true;
  };
  const char *first, *last, *other_first, *other_last;
  if (!ends(*this, first, last) || !ends(other, other_first, other_last)) return false;
  return first < other_last && other_first < last;
}

}  // namespace fastgru::binding
