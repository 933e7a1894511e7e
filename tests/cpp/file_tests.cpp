// Files for the C library with bytes changed, cut out and doubled: each is read, or refused in words.
//
//   file_tests [COUNT]
//
// A sanitizer says where one is read beyond its end.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <new>
#include <random>
#include <string>

#include "stored_gru.h"

namespace {

// Two layers of I = 2 and H = 3, with metadata.
std::string good_file() {
  std::string header = R"({"__metadata__":{"format":"pt","fastgru.layer_norm":"false","fastgru.zoneout":"0.1"})";
  size_t size = 0;
  const auto add = [&](const std::string& name, const std::string& shape, size_t numbers) {
    header += ",\"" + name + "\":{\"dtype\":\"F32\",\"shape\":[" + shape + "],\"data_offsets\":[" +
              std::to_string(size) + "," + std::to_string(size + 4 * numbers) + "]}";
    size += 4 * numbers;
  };
  for (const char* layer : {"_l0", "_l1"}) {
    const bool first = std::string(layer) == "_l0";
    add(std::string("weight_ih") + layer, first ? "9,2" : "9,3", first ? 18 : 27);
    add(std::string("weight_hh") + layer, "9,3", 27);
    add(std::string("bias_ih") + layer, "9", 9);
    add(std::string("bias_hh") + layer, "9", 9);
  }
  header += "}";
  std::string text;
  for (size_t i = 0; i < 8; ++i) text += static_cast<char>(header.size() >> (8 * i));
  return text + header + std::string(size, '\0');
}

std::string changed(const std::string& good, std::mt19937& random) {
  const auto below = [&](size_t limit) { return random() % limit; };
  static const std::string kPieces[] = {"9", "0", "\"", "{", "]", "\\u", "\\", ",", "99999999999999999999", ""};
  size_t header = 0;
  for (size_t i = 0; i < 8; ++i) header |= static_cast<size_t>(static_cast<unsigned char>(good[i])) << (8 * i);
  std::string text = good;
  for (size_t change = 0; change < 1 + below(4); ++change) {
    const size_t at = below(std::min(header + 8, text.size()));
    const std::string piece = below(4) == 0 ? std::string(1, static_cast<char>(below(256))) : kPieces[below(10)];
    text.replace(at, below(4), piece);
  }
  if (below(2) == 0) {  // the header's length is right again
    const size_t length = text.size() + header - good.size();
    for (size_t i = 0; i < 8; ++i) text[i] = static_cast<char>(length >> (8 * i));
  }
  return below(4) == 0 ? text.substr(0, below(text.size())) : text;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string good = good_file(), path = std::string(argv[0]) + ".safetensors";
  std::mt19937 random(1);
  int read = 0;
  const int count = argc > 1 ? std::stoi(argv[1]) : 5000;
  for (int i = -1; i < count; ++i) {
    std::ofstream(path, std::ios::binary) << (i < 0 ? good : changed(good, random));
    try {
      const fastgru::Safetensors stored(path);
      const fastgru::StoredGru gru(stored, "");
      ++read;
    } catch (const fastgru::BadFile& error) {
      if (i < 0) return std::printf("the file itself: %s\n", error.what()), 1;
    } catch (const std::bad_alloc&) {
    }
  }
  std::remove(path.c_str());
  std::printf("%d of %d files read, the others refused\n", read, count + 1);
  return read < count ? 0 : 1;
}
