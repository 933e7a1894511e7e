// Weights in torch's order as the kernels take them.
#pragma once

#include "gru.h"

namespace fastgru {

// One direction's weights or their gradients, at(i) being number i in torch's order, as those of gru.h.
template <class Real, class At>
Parameters<Real> parameters_of(Form form, bool bias, At at) noexcept {
  const auto number = [&](int64_t i) { return static_cast<Real*>(at(i)); };
  const bool normed = form == Form::normed;
  const int64_t gains = bias ? 4 : 2;
  return {number(0),
          number(1),
          bias ? number(2) : nullptr,
          bias ? number(3) : nullptr,
          normed ? number(gains) : nullptr,
          normed ? number(gains + 1) : nullptr};
}

// How many weights a direction has: those of int8 have their scales after the two matrices.
constexpr int64_t weights_of(Form form, bool bias, Precision precision) noexcept {
  return 2 + (precision == Precision::int8 ? 2 : 0) + (bias ? 2 : 0) + (form == Form::normed ? 2 : 0);
}

// Those of few bits, at(i) being number i in this order: w_ih, w_hh, of int8 s_ih, s_hh, then biases and gains.
template <class At>
LowParameters low_parameters_of(Form form, bool bias, Precision precision, At at) noexcept {
  int64_t next = 2;
  const auto pair = [&](bool is_there, const float*& ih, const float*& hh) {
    ih = is_there ? static_cast<const float*>(at(next)) : nullptr;
    hh = is_there ? static_cast<const float*>(at(next + 1)) : nullptr;
    next += is_there ? 2 : 0;
  };
  LowParameters found{at(0), at(1), nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
  pair(precision == Precision::int8, found.s_ih, found.s_hh);
  pair(bias, found.b_ih, found.b_hh);
  pair(form == Form::normed, found.g_ih, found.g_hh);
  return found;
}

}  // namespace fastgru
