// Files of the safetensors format: https://github.com/huggingface/safetensors#format
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace fastgru {

// The file cannot be read; it is read and is not what it must be.
struct CannotRead : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct BadFile : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct StoredTensor {
  std::string dtype;  // as the format has it: "F32"
  std::vector<int64_t> shape;
  const unsigned char* data;  // in the file's bytes
  int64_t size;               // bytes: what shape and dtype say

  int64_t elements() const noexcept;
};

// A file in memory. Nothing in it reaches beyond it.
class Safetensors {
 public:
  // Throws CannotRead, BadFile or std::bad_alloc.
  explicit Safetensors(const std::string& path);
  Safetensors(const Safetensors&) = delete;
  Safetensors& operator=(const Safetensors&) = delete;

  const std::map<std::string, StoredTensor>& tensors() const noexcept { return tensors_; }
  const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }

 private:
  void read_header(const unsigned char* data, int64_t data_size, const std::string& header);

  std::vector<unsigned char> bytes_;
  std::map<std::string, StoredTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

// Its numbers, whatever floating dtype they have. Throws BadFile, naming it, for any other dtype.
std::vector<float> floats_of(const std::string& name, const StoredTensor& tensor);

}  // namespace fastgru
