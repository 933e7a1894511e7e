#include "places.h"

#include <algorithm>
#include <numeric>

namespace fastgru {
namespace {

// rows[t]: how many of these lengths go beyond t; first: their running sum.
void count_rows(const std::vector<int64_t>& lengths, int64_t T, Places& places) {
  places.T = std::max<int64_t>(T, 1);  // the kernels want one step, if an empty one
  places.rows.assign(static_cast<size_t>(places.T), 0);
  for (const int64_t length : lengths) {
    if (length > 0) ++places.rows[static_cast<size_t>(length) - 1];
  }
  for (size_t t = places.rows.size() - 1; t > 0; --t) places.rows[t - 1] += places.rows[t];
  places.first.resize(places.rows.size());
  std::exclusive_scan(places.rows.begin(), places.rows.end(), places.first.begin(), int64_t{0});
}

}  // namespace

void sort_sequences(const std::vector<int64_t>& lengths, Places& places) {
  places.B = static_cast<int64_t>(lengths.size());
  places.order.resize(lengths.size());
  std::iota(places.order.begin(), places.order.end(), int64_t{0});
  std::sort(places.order.begin(), places.order.end(), [&](int64_t a, int64_t b) {
    const int64_t length = lengths[static_cast<size_t>(a)], other = lengths[static_cast<size_t>(b)];
    return length != other ? length > other : a < b;
  });
  count_rows(lengths, lengths.empty() ? 0 : lengths[static_cast<size_t>(places.order[0])], places);
}

Steps Places::steps() const noexcept {
  const auto at = [](const std::vector<int64_t>& table) { return table.empty() ? nullptr : table.data(); };
  return {T, B, at(rows), at(first), at(order), at(time), at(batch)};
}

}  // namespace fastgru
