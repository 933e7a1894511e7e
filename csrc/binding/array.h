// Arrays by Python's buffer protocol: NumPy's, memoryviews, array.array. Read where they lie, checked here.
#pragma once

#include <string>

#include "tensor.h"

namespace fastgru::binding {

// An array's memory, held until this goes: nobody can free or resize it meanwhile.
class Array {
 public:
  enum class Access : uint8_t { read, write };

  // Errors call it `name`. TypeError where it has no buffer of numbers that View can name, is read-only and to be
  // written; ValueError where it has more than kMaxDims dimensions, or does not lie in whole elements.
  Array(nb::handle object, const char* name, Access access);
  ~Array() { PyBuffer_Release(&buffer_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  const View& view() const noexcept { return view_; }
  // ValueError unless it is of this dtype and these sizes, TypeError for another dtype.
  void expect(dlpack::DataType dtype, std::initializer_list<int64_t> sizes) const;
  // ... and lies in one piece.
  void expect_dense(dlpack::DataType dtype, std::initializer_list<int64_t> sizes) const;
  template <class T>
  T* data() const noexcept {
    return static_cast<T*>(view_.data);
  }
  // Whether any byte belongs to both.
  bool overlaps(const Array& other) const noexcept;

 private:
  const char* name_;
  Py_buffer buffer_{};
  View view_;
};

}  // namespace fastgru::binding
