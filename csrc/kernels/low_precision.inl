// All kernels of one instruction set for weights of few bits, as a LowKernelSet. The including file defines
// FASTGRU_LOW_KERNELS, the name of the function that returns it, and FASTGRU_ROUNDING_KERNELS if it has those.
#include "forward.inl"
#include "low_weights.inl"

namespace fastgru {
namespace {

template <class Format>
int64_t low_scratch(const ForwardArgs<float>& a, int32_t threads) noexcept {
  return directions_scratch<float, LowPacked<Format>>(a, threads);
}

template <class Format>
void low_forward(const ForwardArgs<float>& a, float* scratch, const Team& team) noexcept {
  const auto weights_of = [&](const Group&, int64_t d, const auto&) { return LowPacked<Format>(a.packed[d], a.I, a.H); };
  forward_directions<LowPacked<Format>>(a, scratch, team, weights_of);
}

template <class Format>
int64_t low_products_scratch(int64_t I, int64_t H, int64_t B) noexcept {
  using Weights = LowPacked<Format>;
  return B * (state_pitch<float>(I) + Weights::blocks(H) * Weights::kRow) + Weights::encoded_elements(B, I);
}

template <class Format>
void low_products(const float* packed, int64_t I, int64_t H, const float* x, int64_t B, float* scratch,
                  float* to) noexcept {
  using Weights = LowPacked<Format>;
  constexpr int64_t W = Weights::W;
  const Weights weights(packed, I, H);
  const int64_t pitch = state_pitch<float>(I), blocks = Weights::blocks(H);
  float *gx = scratch + B * pitch, *encoded = gx + B * blocks * Weights::kRow;
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t i = 0; i < I; i += W) copy_padded(scratch + b * pitch + i, x + b * I + i, I - i);
  }
  const auto rows = weights.encode(Rows<float>{scratch, pitch, {0, B}}, I, encoded);
  const auto place = [&](int64_t block, int64_t b, int64_t) {
    return Products<float>{gx + (block * B + b) * Weights::kRow, B * Weights::kRow};
  };
  multiply_panels<Weights::kRows>(weights.inputs({0, blocks}, false), rows, place,
                                  [](int64_t, int64_t, int64_t, float*) {});
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t i = 0; i < 3 * H; ++i) {
      const int64_t gate = i / H, unit = i % H;
      to[b * 3 * H + i] = gx[(unit / W * B + b) * Weights::kRow + gate * W + unit % W];
    }
  }
}

template <class Format>
constexpr LowKernels low_kernels() noexcept {
  LowKernels kernels{};
  kernels.forward_threads = &forward_threads<float>;
  kernels.forward_scratch = &low_scratch<Format>;
  kernels.forward = &low_forward<Format>;
  kernels.packed_elements = &LowPacked<Format>::elements;
  kernels.pack = &LowPacked<Format>::pack;
  kernels.products = &low_products<Format>;
  kernels.products_scratch = &low_products_scratch<Format>;
  return kernels;
}

#ifdef FASTGRU_ROUNDING_KERNELS
constexpr LowKernelSet kLowKernelSet = {low_kernels<Int8>(), low_kernels<Bf16>(), &FASTGRU_ROUNDING_KERNELS};
#else
constexpr LowKernelSet kLowKernelSet = {low_kernels<Int8>(), low_kernels<Bf16>(), nullptr};
#endif

}  // namespace

const LowKernelSet& FASTGRU_LOW_KERNELS() noexcept { return kLowKernelSet; }

}  // namespace fastgru
