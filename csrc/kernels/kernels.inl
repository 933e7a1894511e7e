// All kernels of one instruction set, as a KernelSet. The including file defines FASTGRU_KERNELS, the
// name of the function that returns it.
#include "backward.inl"
#include "forward.inl"

namespace fastgru {
namespace {

template <class Real>
int64_t probe(int64_t repeats, int64_t K, Real* memory) noexcept {
  constexpr int64_t kWidth = 3 * kLanes<Real>;
  static_assert(kForwardRows + kWidth <= kProbeWidth && (1 + kForwardRows) * kWidth <= kProbeWidth);
  const Real *panel = memory + kForwardRows * K, *start = panel + kWidth * K;
  Real* c = memory + kProbeWidth * K;
  for (int64_t i = 0; i < repeats; ++i) {
    multiply_tile<Real, kForwardRows, 3>(memory, K, panel, K, start, c, nullptr);
  }
  return repeats * 2 * kForwardRows * K * kWidth;
}

template <class Real>
constexpr Kernels<Real> kKernels = {&Packed<Real>::elements, &pack<Real>,           &reuses_packed<Real>, &forward_threads<Real>,
                                    &forward_scratch<Real>,  &forward<Real>,       &backward_threads<Real>,
                                    &backward_scratch<Real>, &backward<Real>,      &leaves_records<Real>,
                                    &records_threads<Real>,  &records_scratch<Real>, &add_records<Real>, &probe<Real>};

constexpr KernelSet kKernelSet = {kKernels<float>, kKernels<double>};

}  // namespace

const KernelSet& FASTGRU_KERNELS() noexcept { return kKernelSet; }

}  // namespace fastgru
