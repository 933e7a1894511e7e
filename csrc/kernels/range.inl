// Half-open ranges of rows, unit blocks, columns, and how they are split.
#pragma once

#include "simd.h"

namespace fastgru {
namespace {

constexpr int64_t min_of(int64_t a, int64_t b) noexcept { return a < b ? a : b; }
constexpr int64_t max_of(int64_t a, int64_t b) noexcept { return a < b ? b : a; }
constexpr int64_t divide_up(int64_t a, int64_t b) noexcept { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) noexcept { return divide_up(a, b) * b; }

// A number that is known when a function is compiled, as an argument of it.
template <auto kValue>
struct Constant {
  static constexpr auto value = kValue;
};

struct Range {
  int64_t begin, end;

  int64_t size() const noexcept { return end - begin; }
};

// Part `index` of `count` nearly equal parts.
constexpr Range part_of(Range whole, int64_t index, int64_t count) noexcept {
  const int64_t n = whole.end - whole.begin;
  return {whole.begin + n * index / count, whole.begin + n * (index + 1) / count};
}

// The next tile's rows when `left` are to be split into the fewest tiles of nearly one size.
constexpr int64_t tile_rows(int64_t left, int64_t most) noexcept { return divide_up(left, divide_up(left, most)); }

// Calls f(first row, rows) for each of the fewest tiles of at most `most` rows.
template <class F>
FASTGRU_INLINE void for_tiles(Range rows, int64_t most, F f) noexcept {
  for (int64_t row = rows.begin, m; row < rows.end; row += m) {
    m = tile_rows(rows.end - row, most);
    f(row, m);
  }
}

}  // namespace
}  // namespace fastgru
