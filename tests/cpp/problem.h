// A random layer, what it works on and what comes of it. Every tensor is a heap block of exactly its size, so that a
// sanitizer sees a read or a write too many.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gru.h"

namespace fastgru::tests {

template <class T>
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(int64_t n, T fill = T{}) : numbers_(static_cast<std::size_t>(n), fill) {}
  template <class Other>
  explicit Tensor(const Tensor<Other>& from) : numbers_(from.begin(), from.end()) {}

  T& operator[](int64_t i) { return numbers_[static_cast<std::size_t>(i)]; }
  const T& operator[](int64_t i) const { return numbers_[static_cast<std::size_t>(i)]; }
  int64_t size() const { return static_cast<int64_t>(numbers_.size()); }
  bool empty() const { return numbers_.empty(); }
  auto begin() const { return numbers_.begin(); }
  auto end() const { return numbers_.end(); }
  auto begin() { return numbers_.begin(); }
  auto end() { return numbers_.end(); }
  // Null where empty: what the kernels take for "there is none".
  T* data() { return empty() ? nullptr : numbers_.data(); }
  const T* data() const { return empty() ? nullptr : numbers_.data(); }

 private:
  std::vector<T> numbers_;
};

// One direction's parameters, or their gradients; those that the layer has not are empty.
template <class Real>
struct Weights {
  Tensor<Real> w_ih, w_hh, b_ih, b_hh, g_ih, g_hh;

  Weights() = default;
  template <class Other>
  explicit Weights(const Weights<Other>& from)
      : w_ih(from.w_ih), w_hh(from.w_hh), b_ih(from.b_ih), b_hh(from.b_hh), g_ih(from.g_ih), g_hh(from.g_hh) {}

  Parameters<const Real> view() const {
    return {w_ih.data(), w_hh.data(), b_ih.data(), b_hh.data(), g_ih.data(), g_hh.data()};
  }
  Parameters<Real> view() { return {w_ih.data(), w_hh.data(), b_ih.data(), b_hh.data(), g_ih.data(), g_hh.data()}; }
};

// What a matrix is multiplied with in place of a row; `is_rounded`: the kernels compute the row, and have it but for a
// few roundings. NaN where it may be one number or another.
using Entering = Tensor<double> (*)(const Tensor<double>& row, bool is_rounded);

// A layer, its input and its cotangents; lengths do not grow.
struct Problem {
  int64_t I, H, D, T, B;
  Form form;
  bool bias, packed, joined, ordered, with_h0;  // joined: sequences one after the other
  bool reverse;
  Tensor<int64_t> lengths, rows, first, order, start;
  Tensor<uint8_t> resets;  // empty: none; 2 and 0x82 for resets, 0x80 for the gradient's end
  Weights<double> weights[2];
  Tensor<double> x, h0, initial, recurrent, zoneout, dy, dh_n;
  double keep = 1;
  Entering entering = nullptr;  // null: the row as it is
  Tensor<double> states;        // as y: what each step but a sequence's first finds; empty: what the one before it left

  bool compact() const { return packed || joined; }
  bool ragged() const { return compact() || ordered; }
  int64_t rows_in_memory() const { return compact() ? first[T - 1] + rows[T - 1] : T * B; }
  int64_t slot(int64_t b) const { return ordered ? order[b] : b; }
  // Row of (t, b) in x, y and their gradients.
  int64_t at(int64_t t, int64_t b) const {
    if (packed) return first[t] + b;
    return joined ? t + start[b] : t * B + slot(b);
  }
};

// The same for the same seed. Numbers are ones that float holds exactly.
Problem draw(uint32_t seed);

// The problem with x and the weights off by a share of `by`, up or down by chance.
Problem nudged(Problem p, double by);

template <class Real>
struct Results {
  Tensor<Real> y, h_n, dx, dh0, dinitial;
  Weights<Real> gradients[2];

  Results() = default;
  template <class Other>
  explicit Results(const Results<Other>& from)
      : y(from.y),
        h_n(from.h_n),
        dx(from.dx),
        dh0(from.dh0),
        dinitial(from.dinitial),
        gradients{Weights<Real>(from.gradients[0]), Weights<Real>(from.gradients[1])} {}
};

// Everything that the problem has results of, filled with one number. db_ih and db_hh are there without biases too.
Results<double> blank(const Problem& p, double fill);

// What a plain loop in double makes of it.
Results<double> expect(const Problem& p);

// Whether the kernels have second derivatives of it: a single plain step.
bool has_second_derivatives(const Problem& p);

// A direction to move the leaves in, as dx, dh0 and gradients: those that the problem has.
Results<double> draw_direction(const Problem& p, uint32_t seed);

// The plain loop's results differentiated in a direction, by differences of fourth order: what the gradients of
// <direction, gradients> are, by the cotangents of y and h_n (as y and h_n) and by the leaves.
Results<double> expect_second(const Problem& p, const Results<double>& direction);

}  // namespace fastgru::tests
