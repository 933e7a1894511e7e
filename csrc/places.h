// Where the steps of sequences lie, made of what callers give: lengths.
#pragma once

#include <cstdint>
#include <vector>

#include "gru.h"

namespace fastgru {

// The tables of gru.h's Steps, empty for a null pointer there.
struct Places {
  int64_t T = 0, B = 0;
  std::vector<int64_t> rows, first, order, time, batch;

  Steps steps() const noexcept;
};

// Sequences of these lengths, the longest first: T, B, rows, first and order.
void sort_sequences(const std::vector<int64_t>& lengths, Places& places);

}  // namespace fastgru
