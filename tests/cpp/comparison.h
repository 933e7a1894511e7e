// How far results are from what was expected.
#pragma once

#include "problem.h"

namespace fastgru::tests {

// Root of the squared differences over that of the squares (at least 1e-3: cancelled sums have no digits), over
// what the problem has; steps that a sequence has not must be untouched: infinite otherwise.
double error_of(const Tensor<double>& got, const Tensor<double>& expected, const Tensor<uint8_t>& exists);

// 1 where a sequence has a step, of a series of so many features.
Tensor<uint8_t> existing(const Problem& p, int64_t features);

bool same_bits(const Tensor<double>& a, const Tensor<double>& b);

// Prints it in a line.
void describe(const Problem& p);

}  // namespace fastgru::tests
