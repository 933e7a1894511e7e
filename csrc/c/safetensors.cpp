#include "safetensors.h"

#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>

namespace fastgru {
namespace {

constexpr int64_t kMaxHeader = 100'000'000;  // as the format's own library has it

// The JSON of a header: objects, arrays of whole numbers, and strings.
class Json {
 public:
  explicit Json(const std::string& text) : text_(text) {}

  // Calls member(name) at each value of an object.
  template <class F>
  void object(F member) {
    each('{', '}', [&] {
      const std::string name = string();
      expect(':');
      member(name);
    });
  }

  // Calls element() at each value of an array.
  template <class F>
  void array(F element) {
    each('[', ']', element);
  }

  std::string string() {
    expect('"');
    std::string out;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (static_cast<unsigned char>(text_[at_]) < 0x20) fail();
      if (text_[at_] == '\\') {
        escape(out);
      } else {
        out += text_[at_++];
      }
    }
    if (at_++ >= text_.size()) fail();
    return out;
  }

  int64_t whole_number() {
    skip();
    const size_t begin = at_;
    int64_t value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      const int64_t digit = text_[at_] - '0';
      if (value > (std::numeric_limits<int64_t>::max() - digit) / 10) fail();
      value = 10 * value + digit;
    }
    if (at_ == begin) fail();
    return value;
  }

  void end() {
    skip();
    if (at_ != text_.size()) fail();
  }

  [[noreturn]] static void fail() { throw BadFile("its header is no JSON of the safetensors format"); }

 private:
  void skip() noexcept {
    while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_]) && text_[at_] != 0) ++at_;
  }

  bool take(char wanted) noexcept {
    skip();
    const bool found = at_ < text_.size() && text_[at_] == wanted;
    if (found) ++at_;
    return found;
  }

  void expect(char wanted) {
    if (!take(wanted)) fail();
  }

  template <class F>
  void each(char open, char close, F value) {
    expect(open);
    if (take(close)) return;
    do value();
    while (take(','));
    expect(close);
  }

  uint32_t hexadecimal() {
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = at_ < text_.size() ? text_[at_] : '\0';
      const int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
      if (digit < 0) fail();
      code = 16 * code + static_cast<uint32_t>(digit);
    }
    return code;
  }

  // From the backslash on, as UTF-8.
  void escape(std::string& out) {
    constexpr const char *kShort = "\"\\/bfnrt", *kMeans = "\"\\/\b\f\n\r\t";
    const char kind = ++at_ < text_.size() ? text_[at_++] : '\0';
    if (kind != 'u') {
      const char* found = kind == '\0' ? nullptr : std::strchr(kShort, kind);
      if (!found) fail();
      out += kMeans[found - kShort];
      return;
    }
    uint32_t code = hexadecimal();
    if (code >= 0xd800 && code < 0xdc00) {  // the first of a pair
      if (at_ + 1 >= text_.size() || text_[at_] != '\\' || text_[at_ + 1] != 'u') fail();
      at_ += 2;
      const uint32_t low = hexadecimal();
      if (low < 0xdc00 || low >= 0xe000) fail();
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    const int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    constexpr uint32_t kLead[] = {0, 0xc0, 0xe0, 0xf0};
    out += static_cast<char>(kLead[more] | code >> (6 * more));
    for (int i = more - 1; i >= 0; --i) out += static_cast<char>(0x80 | ((code >> (6 * i)) & 0x3f));
  }

  const std::string& text_;
  size_t at_ = 0;
};

// Bytes of an element; 0 for dtypes whose elements are no whole bytes, or that are not known.
int64_t bytes_of(const std::string& dtype) noexcept {
  if (dtype == "F64" || dtype == "I64" || dtype == "U64" || dtype == "C64") return 8;
  if (dtype == "F32" || dtype == "I32" || dtype == "U32") return 4;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16" || dtype == "U16") return 2;
  return dtype == "I8" || dtype == "U8" || dtype == "BOOL" || dtype.rfind("F8_", 0) == 0 ? 1 : 0;
}

// a * b, or -1 where it is no int64.
int64_t product(int64_t a, int64_t b) noexcept {
  if (a == 0 || b == 0) return 0;
  return a > std::numeric_limits<int64_t>::max() / b ? -1 : a * b;
}

std::vector<unsigned char> bytes_at(const std::string& path) {
  const auto close = [](FILE* file) { std::fclose(file); };
  const std::unique_ptr<FILE, decltype(close)> file(std::fopen(path.c_str(), "rb"), close);
  if (!file) throw CannotRead("it cannot be opened");
  std::vector<unsigned char> bytes;
  unsigned char block[1 << 16];
  for (size_t read; (read = std::fread(block, 1, sizeof block, file.get())) > 0;) {
    bytes.insert(bytes.end(), block, block + read);
  }
  if (std::ferror(file.get())) throw CannotRead("it cannot be read");
  return bytes;
}

float from_half(uint16_t bits) noexcept {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u, rest = bits & 0x3ffu;
  if (exponent == 0) {  // a multiple of 2^-24
    const float small = static_cast<float>(rest) * (1.0f / 16777216.0f);
    return sign ? -small : small;
  }
  const uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  const uint32_t word = sign | wide << 23 | rest << 13;
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

}  // namespace

int64_t StoredTensor::elements() const noexcept {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

Safetensors::Safetensors(const std::string& path) : bytes_(bytes_at(path)) {
  const auto size = static_cast<int64_t>(bytes_.size());
  uint64_t length = 0;  // little-endian
  for (size_t i = 0; size >= 8 && i < 8; ++i) length |= static_cast<uint64_t>(bytes_[i]) << (8 * i);
  if (size < 8 || length > static_cast<uint64_t>(kMaxHeader) || static_cast<int64_t>(length) > size - 8) {
    throw BadFile("it is cut, or no safetensors file");
  }
  const auto header = static_cast<int64_t>(length);
  read_header(bytes_.data() + 8 + header, size - 8 - header, {bytes_.begin() + 8, bytes_.begin() + 8 + header});
}

void Safetensors::read_header(const unsigned char* data, int64_t data_size, const std::string& header) {
  Json json(header);
  json.object([&](const std::string& name) {
    if (name == "__metadata__") {
      return json.object([&](const std::string& key) { metadata_[key] = json.string(); });
    }
    StoredTensor tensor{};
    std::vector<int64_t> offsets;
    json.object([&](const std::string& field) {
      if (field == "dtype") return static_cast<void>(tensor.dtype = json.string());
      if (field != "shape" && field != "data_offsets") Json::fail();
      auto& numbers = field == "shape" ? tensor.shape : offsets;
      json.array([&] { numbers.push_back(json.whole_number()); });
    });
    if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data_size) {
      throw BadFile("it is cut: it has not all of " + name);
    }
    const int64_t each = bytes_of(tensor.dtype);
    int64_t bytes = each == 0 ? offsets[1] - offsets[0] : each;
    for (const int64_t size : tensor.shape) {
      if (each > 0) bytes = bytes < 0 ? bytes : product(bytes, size);
    }
    if (bytes != offsets[1] - offsets[0]) throw BadFile("the shape of " + name + " is not that of its bytes");
    tensor.data = data + offsets[0];
    tensor.size = bytes;
    tensors_[name] = tensor;
  });
  json.end();
}

std::vector<float> floats_of(const std::string& name, const StoredTensor& tensor) {
  const auto count = static_cast<size_t>(tensor.elements());
  std::vector<float> out(count);
  const auto word = [&](size_t i) { return static_cast<uint16_t>(tensor.data[2 * i] | tensor.data[2 * i + 1] << 8); };
  if (tensor.dtype == "F32") {
    if (count > 0) std::memcpy(out.data(), tensor.data, count * sizeof(float));
  } else if (tensor.dtype == "F64") {
    for (size_t i = 0; i < count; ++i) {
      double value;
      std::memcpy(&value, tensor.data + 8 * i, sizeof value);
      out[i] = static_cast<float>(value);
    }
  } else if (tensor.dtype == "F16") {
    for (size_t i = 0; i < count; ++i) out[i] = from_half(word(i));
  } else if (tensor.dtype == "BF16") {
    for (size_t i = 0; i < count; ++i) {
      const uint32_t bits = static_cast<uint32_t>(word(i)) << 16;
      std::memcpy(&out[i], &bits, sizeof bits);
    }
  } else {
    throw BadFile(name + " must be F32, F64, F16 or BF16, got " + tensor.dtype);
  }
  return out;
}

}  // namespace fastgru
