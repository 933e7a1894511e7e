// All kernels of one instruction set, as a KernelSet. The including file defines FASTGRU_KERNELS, the
// name of the function that returns it.
#ifndef FASTGRU_INFERENCE_ONLY
#include "backward.inl"
#include "step_double_backward.inl"
#endif
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
constexpr Kernels<Real> kernels_for_inference() noexcept {
  Kernels<Real> kernels{};
  kernels.packed_elements = &Packed<Real>::elements;
  kernels.pack = &pack<Real>;
  kernels.fingerprint = &fingerprint_part<Real>;
  kernels.reuses_packed = &reuses_packed<Real>;
  kernels.forward_threads = &forward_threads<Real>;
  kernels.forward_scratch = &forward_scratch<Real>;
  kernels.forward = &forward<Real>;
  kernels.probe = &probe<Real>;
  return kernels;
}

#ifdef FASTGRU_INFERENCE_ONLY

constexpr KernelSet kKernelSet = {kernels_for_inference<float>(), {}};

#else

template <class Real>
constexpr Kernels<Real> kernels() noexcept {
  Kernels<Real> kernels = kernels_for_inference<Real>();
  kernels.backward_threads = &backward_threads<Real>;
  kernels.backward_scratch = &backward_scratch<Real>;
  kernels.backward = &backward<Real>;
  kernels.leaves_records = &leaves_records<Real>;
  kernels.records_threads = &records_threads<Real>;
  kernels.records_scratch = &records_scratch<Real>;
  kernels.add_records = &add_records<Real>;
  kernels.double_backward_threads = &double_backward_threads<Real>;
  kernels.double_backward_scratch = &double_backward_scratch<Real>;
  kernels.double_backward = &double_backward<Real>;
  return kernels;
}

constexpr KernelSet kKernelSet = {kernels<float>(), kernels<double>()};

#endif

}  // namespace

const KernelSet& FASTGRU_KERNELS() noexcept { return kKernelSet; }

}  // namespace fastgru
