// Tensors as Python gives them: read where they lie, checked here and nowhere else.
#pragma once

#include <nanobind/nanobind.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "dlpack.h"

namespace fastgru::binding {

namespace nb = nanobind;

constexpr int32_t kMaxDims = 3;

// The memory of a tensor on the CPU. Valid while the tensor lives and nobody changes it.
struct View {
  void* data = nullptr;
  dlpack::DataType dtype{};
  int32_t ndim = 0;
  std::array<int64_t, kMaxDims> sizes{}, strides{};  // in elements
  bool there = false;                                // whether there is a tensor: an empty one has no data

  bool is(uint8_t code, uint8_t bits) const noexcept { return dtype.code == code && dtype.bits == bits; }
  bool has_sizes(std::initializer_list<int64_t> of) const noexcept;
  bool is_dense() const noexcept;
  // The last dimension lies in one piece.
  bool has_dense_rows() const noexcept { return strides[last()] == 1 || sizes[last()] <= 1; }

 private:
  size_t last() const noexcept { return static_cast<size_t>(ndim) - 1; }
};

// What Reader makes of a tensor that it cannot read as it lies.
enum class Layout : uint8_t {
  any,   // nothing: any strides
  rows,  // a copy whose last dimension lies in one piece
  dense  // a copy that lies in one piece
};

// Tells the module torch's two types of plain tensors, and that of their storage. Where this torch has no exchange table
// of DLPack, or `in_place` is false, tensors are read through their Python methods.
void use_tensors(nb::handle tensor, nb::handle parameter, nb::handle storage, bool in_place);

// Exactly torch.Tensor or torch.nn.Parameter, no subclass.
bool is_plain(nb::handle object) noexcept;

// Reads a plain tensor; false where it is none, is not dense in memory of the CPU, or has more than kMaxDims dimensions.
// Data may be null, and belong to a zero tensor or one that waits to be negated: only sizes and dtype are to be used.
bool read_header(nb::handle object, View& view);

// Reads the tensors of one call, and holds the copies that it had to make for as long as the call takes.
//
// Each method takes the name by which errors call the tensor. TypeError where it is no tensor; RuntimeError where it is
// not in memory of the CPU, or where its storage is smaller than it (freed, as by untyped_storage().resize_(0)).
//
// measures false: only a storage without any memory is refused. To ask how large one is takes 0.2 us a tensor, 1.3 of the
// 8 us of a single step.
class Reader {
 public:
  explicit Reader(bool measures = true) : measures_(measures) {}
  View read(nb::handle tensor, const std::string& name, Layout layout);
  // Brings what lies elsewhere to the CPU.
  View fetch(nb::handle tensor, const std::string& name, Layout layout);
  // A view that is not `there` for None.
  View read_if_there(nb::handle tensor, const std::string& name, Layout layout);

 private:
  nb::handle hold(nb::object made);
  void check_storage(nb::handle object, const std::string& name, const View& view) const;

  const bool measures_;
  std::vector<nb::object> held_;
};

// The name of its class, without that of a module.
std::string class_of(nb::handle object);

// object.method(), which may raise.
nb::object call(nb::handle object, const char* method);

// like.new_empty(*sizes), and where its memory lies.
nb::object new_empty(nb::handle like, std::initializer_list<int64_t> sizes, View& view);

// The same of a dense tensor's sizes, in half the time.
nb::object empty_like(nb::handle dense, View& view);

// "[3, 4] float32"
std::string described(const View& view);
std::string described(std::initializer_list<int64_t> sizes);

// Raises ValueError: `name` must be what was `expected`, and is not.
[[noreturn]] void refuse(const std::string& name, const std::string& expected, const View& view);

}  // namespace fastgru::binding
