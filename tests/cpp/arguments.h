// What a program of tests is asked for.
#pragma once

#include <charconv>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <system_error>

namespace fastgru::tests {

struct Arguments {
  uint32_t seed = 1;
  std::string set;  // of instructions; empty: all that are here
  int64_t count = 60;
};

inline int64_t number(const std::string& text, int64_t most) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || *end != '\0' || value < 0 || value > most) {
    throw std::invalid_argument("'" + text + "' is not a number from 0 to " + std::to_string(most));
  }
  return value;
}

// [--seed S] [`option` NAME] [COUNT]. Throws std::invalid_argument.
inline Arguments parse(int argc, char** argv, const std::string& option) {
  Arguments out;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const bool is_option = name == "--seed" || name == option;
    if (is_option && ++i == argc) throw std::invalid_argument(name + " needs a value");
    if (name == option) {
      out.set = argv[i];
    } else if (name == "--seed") {
      out.seed = static_cast<uint32_t>(number(argv[i], std::numeric_limits<uint32_t>::max()));
    } else {
      out.count = number(name, 1000000);
    }
  }
  return out;
}

}  // namespace fastgru::tests
