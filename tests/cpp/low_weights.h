// Weights of few bits, and what gru.h says of the rows that they are multiplied with: one number after the other.
#pragma once

#include "problem.h"

namespace fastgru::tests {

// The nearest bfloat16, halves to even; of a number that is finite.
uint16_t bf16_of(float number);
float float_of(uint16_t bf16);

// A row's whole numbers, and what one is worth: NaN where the row is not finite.
struct WholeRow {
  Tensor<float> numbers;
  float worth;

  explicit WholeRow(const Tensor<float>& row);
};

// One direction's.
class LowWeights {
 public:
  LowWeights() = default;
  // The nearest to a problem's weights [3H, ..], which become what these are worth.
  LowWeights(Weights<double>& weights, int64_t H, Precision precision);

  LowParameters view() const;

 private:
  struct Matrix {
    Tensor<int8_t> whole;
    Tensor<uint16_t> halves;
    Tensor<float> scale;

    Matrix() = default;
    Matrix(Tensor<double>& w, int64_t rows, Precision precision);
    const void* data() const;
  };

  Matrix w_ih_, w_hh_;
  Weights<float> others_;  // of which the matrices are not read
};

// What rows become of which kernels make whole numbers, or bfloat16.
Tensor<double> as_whole_numbers(const Tensor<double>& row, bool is_rounded);
Tensor<double> as_bf16(const Tensor<double>& row, bool is_rounded);

}  // namespace fastgru::tests
