// One GRU of a file: what it is, and its weights.
#pragma once

#include <string>
#include <vector>

#include "network.h"
#include "safetensors.h"

namespace fastgru {

struct StoredGru {
  NetworkSpec spec;
  std::vector<std::vector<float>> weights;  // in the order of Network's
  std::vector<float> initial;               // empty: none

  // The one whose names begin with `prefix`. Throws BadFile, in words.
  StoredGru(const Safetensors& file, const std::string& prefix);
};

}  // namespace fastgru
