// The part of DLPack 1.3's exchange table that reads a tensor where it lies: no copy, no reference, no capsule.
// https://github.com/dmlc/dlpack: names and layout are that header's, so that both can be held side by side.
#pragma once

#include <cstdint>

namespace fastgru::dlpack {

constexpr int32_t kCpu = 1;
constexpr uint8_t kInt = 0, kUInt = 1, kFloat = 2, kOpaque = 3, kBfloat = 4, kBool = 6;

struct Device {
  int32_t type, id;
};

struct DataType {
  uint8_t code, bits;
  uint16_t lanes;
};

// Strides count elements. Everything belongs to the tensor, and holds until it is changed.
struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
};

struct Version {
  uint32_t major, minor;
};

// What `__dlpack_c_exchange_api__` of a tensor's type, a capsule named kCapsule, points to.
struct ExchangeApi {
  Version version;
  ExchangeApi* previous;
  int (*managed_tensor_allocator)();
  int (*managed_tensor_from_py_object_no_sync)();
  int (*managed_tensor_to_py_object_no_sync)();
  // 0, or -1 with a Python exception set where DLPack cannot describe the tensor; may be null.
  int (*dltensor_from_py_object_no_sync)(void* py_object, Tensor* out);
  int (*current_work_stream)();
};

constexpr const char* kCapsule = "dlpack_exchange_api";
constexpr uint32_t kMajor = 1;

}  // namespace fastgru::dlpack
