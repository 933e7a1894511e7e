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

}  // namespace fastgru
