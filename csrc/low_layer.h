// Weights of few bits, packed: of one layer, or of a network.
#pragma once

#include <cstdint>
#include <memory>

#include "gru.h"
#include "memory.h"
#include "network.h"

namespace fastgru {

// One layer's. Immutable.
class LowLayer {
 public:
  // Of a layer's I, H, D, form; weights as low_parameters_of made them. Throws std::bad_alloc.
  LowLayer(const ForwardArgs<float>& layer, Precision precision, const LowParameters* parameters);

  const LowKernels& kernels() const noexcept { return kernels_; }
  // Whether kernels of this precision that are called now are those it was packed for.
  bool is_current(Precision precision) const;
  // Has a call use them.
  void lend(ForwardArgs<float>& args) const noexcept;

 private:
  const LowKernels& kernels_;
  Buffer<float> packed_[2];
};

// A network of weights of few bits: spec.precision says of which. weights as Network takes them, in the order of
// low_parameters_of; all are copied. Throws std::bad_alloc.
std::shared_ptr<const Network<float>> low_network(const NetworkSpec& spec, const void* const* weights,
                                                  const float* initial);

}  // namespace fastgru
