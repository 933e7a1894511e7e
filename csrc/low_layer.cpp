#include "low_layer.h"

#include "low_dispatch.h"
#include "parameters.h"

namespace fastgru {
namespace {

class LowPacker : public Packer<float> {
 public:
  LowPacker(const NetworkSpec& spec, const LowKernels& kernels, const void* const* weights) noexcept
      : spec_(spec), kernels_(kernels), weights_(weights) {}
  int64_t elements(int64_t I, int64_t H) const noexcept override { return kernels_.packed_elements(I, H); }
  void pack(int64_t layer, int64_t d, int64_t I, int64_t H, float* to) const noexcept override {
    const void* const* own = weights_ + (layer * spec_.D + d) * spec_.weights_per_direction();
    const auto weight = [&](int64_t i) { return own[i]; };
    kernels_.pack(low_parameters_of(spec_.form, spec_.bias, spec_.precision, weight), spec_.form, I, H, to);
  }

 private:
  const NetworkSpec& spec_;
  const LowKernels& kernels_;
  const void* const* weights_;
};

}  // namespace

LowLayer::LowLayer(const ForwardArgs<float>& layer, Precision precision, const LowParameters* parameters)
    : kernels_(active_low_kernels(precision)) {
  for (int64_t d = 0; d < layer.D; ++d) {
    packed_[d] = Buffer<float>(static_cast<size_t>(kernels_.packed_elements(layer.I, layer.H)));
    kernels_.pack(parameters[d], layer.form, layer.I, layer.H, packed_[d].data());
  }
}

bool LowLayer::is_current(Precision precision) const { return &kernels_ == &active_low_kernels(precision); }

void LowLayer::lend(ForwardArgs<float>& args) const noexcept {
  for (int64_t d = 0; d < args.D; ++d) args.packed[d] = packed_[d].data();
  args.trusted = true;
}

std::shared_ptr<const Network<float>> low_network(const NetworkSpec& spec, const void* const* weights,
                                                  const float* initial) {
  const LowKernels& kernels = active_low_kernels(spec.precision);
  return std::make_shared<const Network<float>>(spec, kernels, LowPacker(spec, kernels, weights), initial);
}

}  // namespace fastgru
