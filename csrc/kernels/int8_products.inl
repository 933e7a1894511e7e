// Sums of products of whole numbers of 8 bits, with what the instruction set has for it. gru.h defines them.
#pragma once

#include "range.inl"

#if defined(__aarch64__)
#include <arm_neon.h>
#elif defined(__SSE2__)
#include <immintrin.h>
#endif

namespace fastgru {
namespace {

// kTerms terms of a sum lie side by side, in a Word of a row and in each lane of a vector of weights of kBytes.
//
// VNNI multiplies a row's numbers without a sign: they are 128 more there, which a sum begins with 128 times its
// weights less for. Elsewhere two products go into a sum at once, of weights that become 16 bits as they are loaded.
struct Int8 {
  using Element = int8_t;  // of weights
  using Sum = typename Simd<float>::Int;
  static constexpr int64_t W = kLanes<float>;
  static constexpr bool kScaled = true, kTrained = false;

#if defined(__AVX512VNNI__)
  using Word = int32_t;
  using Spread = __m512i;
  using Wide = __m512i;
  static constexpr int64_t kTerms = 4;
  static constexpr int32_t kOffset = 128;
  static constexpr int kRows = 8;
  FASTGRU_INLINE static Wide load(const uint8_t* w) noexcept { return _mm512_loadu_si512(w); }
  FASTGRU_INLINE static Spread spread(const Word* a) noexcept { return _mm512_set1_epi32(*a); }
  FASTGRU_INLINE static void add(Sum& sum, Spread a, Wide w) noexcept {
    sum = reinterpret_cast<Sum>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), a, w));
  }
  FASTGRU_INLINE static void put(Vec<float> x, Word* to) noexcept {
    const __m512i q = _mm512_cvtps_epi32(reinterpret_cast<__m512>(x));
    const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_xor_si512(q, _mm512_set1_epi32(kOffset)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
  }
#elif defined(__AVX512F__)
  using Word = int32_t;
  using Spread = __m512i;
  using Wide = __m512i;
  static constexpr int64_t kTerms = 2;
  static constexpr int32_t kOffset = 0;
  static constexpr int kRows = 6;
  FASTGRU_INLINE static Wide load(const uint8_t* w) noexcept {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(w)));
  }
  FASTGRU_INLINE static Spread spread(const Word* a) noexcept { return _mm512_set1_epi32(*a); }
  FASTGRU_INLINE static void add(Sum& sum, Spread a, Wide w) noexcept {
    sum += reinterpret_cast<Sum>(_mm512_madd_epi16(a, w));
  }
  FASTGRU_INLINE static void put(Vec<float> x, Word* to) noexcept {
    const __m256i words = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(reinterpret_cast<__m512>(x)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), words);
  }
#elif defined(__AVX2__)
  using Word = int32_t;
  using Spread = __m256i;
  using Wide = __m256i;
  FASTGRU_INLINE static Spread spread(const Word* a) noexcept { return _mm256_set1_epi32(*a); }
  FASTGRU_INLINE static __m128i words(Vec<float> x) noexcept {
    const __m256i q = _mm256_cvtps_epi32(reinterpret_cast<__m256>(x));
    return _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
  }
#if defined(__AVXVNNI__)
  static constexpr int64_t kTerms = 4;
  static constexpr int32_t kOffset = 128;
  static constexpr int kRows = 4;
  FASTGRU_INLINE static Wide load(const uint8_t* w) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
  }
  FASTGRU_INLINE static void add(Sum& sum, Spread a, Wide w) noexcept {
    sum = reinterpret_cast<Sum>(_mm256_dpbusd_avx_epi32(reinterpret_cast<__m256i>(sum), a, w));
  }
  FASTGRU_INLINE static void put(Vec<float> x, Word* to) noexcept {
    const __m128i q = words(x), bytes = _mm_xor_si128(_mm_packs_epi16(q, q), _mm_set1_epi8(-128));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), bytes);
  }
#else
  static constexpr int64_t kTerms = 2;
  static constexpr int32_t kOffset = 0;
  static constexpr int kRows = 3;  // with four rows there would be no register left for a product
  FASTGRU_INLINE static Wide load(const uint8_t* w) noexcept {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
  }
  FASTGRU_INLINE static void add(Sum& sum, Spread a, Wide w) noexcept {
    sum += reinterpret_cast<Sum>(_mm256_madd_epi16(a, w));
  }
  FASTGRU_INLINE static void put(Vec<float> x, Word* to) noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), words(x));
  }
#endif
#elif defined(__ARM_FEATURE_DOTPROD)
  using Word = int32_t;
  using Spread = int8x16_t;
  using Wide = int8x16_t;
  static constexpr int64_t kTerms = 4;
  static constexpr int32_t kOffset = 0;
  static constexpr int kRows = 8;
  FASTGRU_INLINE static Wide load(const uint8_t* w) noexcept { return vld1q_s8(reinterpret_cast<const int8_t*>(w)); }
  FASTGRU_INLINE static Spread spread(const Word* a) noexcept { return vreinterpretq_s8_s32(vdupq_n_s32(*a)); }
  FASTGRU_INLINE static void add(Sum& sum, Spread a, Wide w) noexcept {
    sum = reinterpret_cast<Sum>(vdotq_s32(reinterpret_cast<int32x4_t>(sum), w, a));
  }
  FASTGRU_INLINE static void put(Vec<float> x, Word* to) noexcept {
    const int16x4_t words = vmovn_s32(vcvtnq_s32_f32(reinterpret_cast<float32x4_t>(x)));
    vst1_lane_s32(to, vreinterpret_s32_s8(vmovn_s16(vcombine_s16(words, words))), 0);
  }
#elif defined(__aarch64__)
  using Word = int16_t;
  using Spread = int8x8_t;
  using Wide = int8x8_t;
  static constexpr int64_t kTerms = 2;
  static constexpr int32_t kOffset = 0;
  static constexpr int kRows = 6;
  FASTGRU_INLINE static Wide load(const uint8_t* w) noexcept { return vld1_s8(reinterpret_cast<const int8_t*>(w)); }
  FASTGRU_INLINE static Spread spread(const Word* a) noexcept { return vreinterpret_s8_s16(vdup_n_s16(*a)); }
  FASTGRU_INLINE static void add(Sum& sum, Spread a, Wide w) noexcept {
    sum = reinterpret_cast<Sum>(vpadalq_s16(reinterpret_cast<int32x4_t>(sum), vmull_s8(w, a)));
  }
  FASTGRU_INLINE static void put(Vec<float> x, Word* to) noexcept {
    const int16x4_t words = vmovn_s32(vcvtnq_s32_f32(reinterpret_cast<float32x4_t>(x)));
    vst1_lane_s32(reinterpret_cast<int32_t*>(to), vreinterpret_s32_s8(vmovn_s16(vcombine_s16(words, words))), 0);
  }
#elif defined(__SSE2__)
  using Word = int32_t;
  using Spread = __m128i;
  using Wide = __m128i;
  static constexpr int64_t kTerms = 2;
  static constexpr int32_t kOffset = 0;
  static constexpr int kRows = 2;
  FASTGRU_INLINE static Wide load(const uint8_t* w) noexcept {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(w));
    return _mm_srai_epi16(_mm_unpacklo_epi8(bytes, bytes), 8);
  }
  FASTGRU_INLINE static Spread spread(const Word* a) noexcept { return _mm_set1_epi32(*a); }
  FASTGRU_INLINE static void add(Sum& sum, Spread a, Wide w) noexcept {
    sum += reinterpret_cast<Sum>(_mm_madd_epi16(a, w));
  }
  FASTGRU_INLINE static void put(Vec<float> x, Word* to) noexcept {
    const __m128i q = _mm_cvtps_epi32(reinterpret_cast<__m128>(x));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packs_epi32(q, q));
  }
#else
  using Word = int32_t;
  using Spread = int32_t;
  struct Wide {
    Sum numbers;
  };
  static constexpr int64_t kTerms = 1;
  static constexpr int32_t kOffset = 0;
  static constexpr int kRows = 2;
  FASTGRU_INLINE static Wide load(const uint8_t* w) noexcept {
    Wide wide{};
    for (int64_t i = 0; i < W; ++i) wide.numbers[i] = static_cast<int8_t>(w[i]);
    return wide;
  }
  FASTGRU_INLINE static Spread spread(const Word* a) noexcept { return *a; }
  FASTGRU_INLINE static void add(Sum& sum, Spread a, const Wide& w) noexcept { sum += a * w.numbers; }
  FASTGRU_INLINE static void put(Vec<float> x, Word* to) noexcept {
    for (int64_t i = 0; i < W; ++i) to[i] = static_cast<int32_t>(__builtin_rintf(x[i]));
  }
#endif

  static constexpr int64_t kWords = 1, kBytes = W * kTerms;

  FASTGRU_INLINE static Vec<float> floats(Sum sum) noexcept { return __builtin_convertvector(sum, Vec<float>); }

  // Words of a row of K numbers, whole vectors of x.
  static int64_t words_of(int64_t K) noexcept { return round_up(K, W) / kTerms; }

  // A row of K numbers, zero from there to a whole vector, becomes whole ones; returns what one of them is worth.
  FASTGRU_KEPT_APART static float encode(const float* x, int64_t K, Word* to) noexcept {
    Sum most{};
    for (int64_t k = 0; k < K; k += W) {
      const Sum bits = reinterpret_cast<Sum>(::fastgru::load(x + k)) & 0x7fffffff;
      most = bits > most ? bits : most;  // as whole numbers they are in the same order, and NaN is the largest
    }
    int32_t largest_bits = 0x0da24260;  // 1e-30
    for (int64_t i = 0; i < W; ++i) largest_bits = most[i] > largest_bits ? most[i] : largest_bits;
    const bool is_finite = largest_bits < 0x7f800000;
    float largest;
    __builtin_memcpy(&largest, &largest_bits, sizeof largest);
    const Vec<float> by = splat(127.0f / largest);
    for (int64_t k = 0; k < K; k += W) put(is_finite ? ::fastgru::load(x + k) * by : Vec<float>{}, to + k / kTerms);
    return is_finite ? largest / 127.0f : __builtin_nanf("");
  }
};

}  // namespace
}  // namespace fastgru
