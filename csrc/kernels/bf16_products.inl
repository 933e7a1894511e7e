// Sums of products with weights of bfloat16: of pairs of such numbers where the instruction set has it, otherwise of
// float.
#pragma once

#include "gru.h"
#include "range.inl"

namespace fastgru {
namespace {

// As Int8: two terms lie side by side, the first in the lower half of a lane's 32 bits.
struct Bf16 {
  using Element = uint16_t;  // of weights
  using Sum = Vec<float>;
  using Int = typename Simd<float>::Int;
  static constexpr int64_t W = kLanes<float>, kTerms = 2, kBytes = 4 * W;
  static constexpr bool kScaled = false;

#if defined(__AVX512BF16__)
  using Word = int32_t;
  using Spread = __m512bh;
  using Wide = __m512bh;
  static constexpr int64_t kWords = 1;
  static constexpr int kRows = 8;
  static constexpr bool kRounds = true, kTrained = kTrains;
  FASTGRU_INLINE static Wide load(const uint8_t* w) noexcept {
    return reinterpret_cast<Wide>(_mm512_loadu_si512(w));
  }
  FASTGRU_INLINE static Spread spread(const Word* a) noexcept {
    return reinterpret_cast<Spread>(_mm512_set1_epi32(*a));
  }
  FASTGRU_INLINE static void add(Sum& sum, Spread a, Wide w) noexcept {
    sum = reinterpret_cast<Sum>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), a, w));
  }
  static int64_t words_of(int64_t K) noexcept { return round_up(K, W) / kTerms; }
  FASTGRU_KEPT_APART static void encode(const float* x, int64_t K, Word* to) noexcept {
    for (int64_t k = 0; k < K; k += W) {
      const __m256bh halves = _mm512_cvtneps_pbh(reinterpret_cast<__m512>(::fastgru::load(x + k)));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + k / kTerms), reinterpret_cast<__m256i>(halves));
    }
  }
#else
  using Word = float;
  struct Spread {
    Vec<float> first, second;
  };
  struct Wide {
    Vec<float> first, second;
  };
  static constexpr int64_t kWords = 2;
#if defined(__AVX512F__) || defined(__aarch64__)
  static constexpr int kRows = 6;
#elif defined(__AVX2__)
  static constexpr int kRows = 3;
#else
  static constexpr int kRows = 2;
#endif
  static constexpr bool kRounds = false, kTrained = false;
  FASTGRU_INLINE static Wide load(const uint8_t* w) noexcept {
    typedef int32_t Loose __attribute__((vector_size(kVectorBytes), aligned(1), may_alias));
    const Int bits = *reinterpret_cast<const Loose*>(w);
    return {reinterpret_cast<Vec<float>>(bits << 16), reinterpret_cast<Vec<float>>(bits & ~0xffff)};
  }
  FASTGRU_INLINE static Spread spread(const Word* a) noexcept { return {splat(a[0]), splat(a[1])}; }
  FASTGRU_INLINE static void add(Sum& sum, const Spread& a, const Wide& w) noexcept {
    add_product<float>(sum, a.first, w.first);
    add_product<float>(sum, a.second, w.second);
  }
#endif

  FASTGRU_INLINE static Vec<float> floats(Sum sum) noexcept { return sum; }
};

}  // namespace
}  // namespace fastgru
