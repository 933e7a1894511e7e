// One vector type per instruction set, the same names for each. Included only by the isa_*.cpp files,
// each compiled with its own flags: all of it stays in an anonymous namespace, so that no function
// compiled for one set can be linked into another.
//
// Vec<Real>         kLanes<Real> numbers
//
// load, store                         unaligned, all lanes
//
// load_lanes, store_lanes             the first n lanes, others zero / untouched
//
// splat, at_most, at_least, divide
//
// sigmoid, tanh                       errors are stated at each
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#define FASTGRU_INLINE [[gnu::always_inline]] inline

// Neither inlined nor, by GCC, copied for one of its arguments.
#ifdef __clang__
#define FASTGRU_KEPT_APART [[gnu::noinline]]
#else
#define FASTGRU_KEPT_APART [[gnu::noinline, gnu::noclone]]
#endif

// See add_product.
#if defined(__clang__) && defined(__AVX2__) && !defined(__AVX512F__)
#define FASTGRU_HASTY_LOADS 1
#endif

namespace fastgru {
namespace {

// Sums that fit into the registers beside a row of a panel and one broadcast number. Tiles are of
// kForwardRows x 3, kBackwardRows x 2 and kOuterRows x 2 vectors.
#if defined(__AVX512F__)
constexpr int64_t kVectorBytes = 64, kAccumulators = 24;
constexpr int64_t kForwardRows = 8, kBackwardRows = 8, kOuterRows = 8;
#elif defined(__AVX2__)
constexpr int64_t kVectorBytes = 32, kAccumulators = 12;
constexpr int64_t kForwardRows = 4, kBackwardRows = 6, kOuterRows = 4;
#elif defined(__aarch64__)
constexpr int64_t kVectorBytes = 16, kAccumulators = 24;
constexpr int64_t kForwardRows = 8, kBackwardRows = 8, kOuterRows = 8;
#else
constexpr int64_t kVectorBytes = 16, kAccumulators = 8;
constexpr int64_t kForwardRows = 2, kBackwardRows = 4, kOuterRows = 4;
#endif

// e^x = 2^n e^r with n whole and |r| <= ln(2)/2; e^r - 1 = r + r^2 q(r). q interpolates at the Chebyshev
// nodes; its error relative to e^r - 1 is 2.4e-8 in float (4th degree), 3.9e-17 in double (9th).
template <class Real>
struct Simd;

template <>
struct Simd<float> {
  typedef float Vec __attribute__((vector_size(kVectorBytes)));
  typedef float Loose __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
  typedef int32_t Int __attribute__((vector_size(kVectorBytes)));
  static constexpr int32_t kMantissaBits = 23, kExponentOfOne = 0x3f800000;
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  static constexpr float kLog2e = 1.44269504f, kLn2High = 0.693145752f, kLn2Low = 1.42860677e-6f;
  static constexpr float kExpLow = -87.0f;    // e^x and e^-x are normal numbers, and 1 + e^x is 1
  static constexpr float kTanhLimit = 15.0f;  // tanh is 1 beyond

  FASTGRU_INLINE static Vec expm1_tail(Vec r, Vec r2) noexcept {
    const Vec low = 0.5f + 0.1666657689f * r, high = 0.0416665545f + 0.008363194882f * r;
    return low + r2 * (high + r2 * 0.001392620336f);
  }
};

template <>
struct Simd<double> {
  typedef double Vec __attribute__((vector_size(kVectorBytes)));
  typedef double Loose __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
  typedef int64_t Int __attribute__((vector_size(kVectorBytes)));
  static constexpr int64_t kMantissaBits = 52, kExponentOfOne = 0x3ff0000000000000;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLog2e = 1.4426950408889634, kLn2High = 0.693147180369123816490,
                          kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kExpLow = -708.0;
  static constexpr double kTanhLimit = 25.0;

  FASTGRU_INLINE static Vec expm1_tail(Vec r, Vec r2) noexcept {
    const Vec a = 0.500000000000000102 + 0.166666666666666675 * r;
    const Vec b = 0.0416666666666240377 + 0.0083333333333300549 * r;
    const Vec c = 0.00138888889172587583 + 0.000198412698630882544 * r;
    const Vec d = 0.0000248015212259864325 + 2.7557268406190795e-6 * r;
    const Vec e = 2.76201217173819352e-7 + 2.51004110820149011e-8 * r;
    const Vec r4 = r2 * r2;
    return (a + r2 * b) + r4 * ((c + r2 * d) + r4 * e);
  }
};

template <class Real>
using Vec = typename Simd<Real>::Vec;

template <class Real>
constexpr int64_t kLanes = kVectorBytes / static_cast<int64_t>(sizeof(Real));

template <class Real>
FASTGRU_INLINE Vec<Real> load(const Real* p) noexcept {
  return *reinterpret_cast<const typename Simd<Real>::Loose*>(p);
}

template <class Real>
FASTGRU_INLINE void store(Real* p, Vec<Real> v) noexcept {
  *reinterpret_cast<typename Simd<Real>::Loose*>(p) = v;
}

template <class Real>
FASTGRU_INLINE Vec<Real> splat(Real x) noexcept {
  return x - Vec<Real>{};
}

// Stops GCC from folding the load of v into every instruction that uses it: two rows of a tile would load
// a panel twice, and loads, not products, would be the limit (81 against 125 GFLOP/s).
template <class Real>
FASTGRU_INLINE void keep_in_register(Vec<Real>& v) noexcept {
#if defined(__AVX512F__)
  __asm__("" : "+v"(v));
#elif defined(__x86_64__)
  __asm__("" : "+x"(v));
#elif defined(__aarch64__)
  __asm__("" : "+w"(v));
#endif
}

// sum += x * y, of a tile whose sums take up the registers. With 16 of them Clang (19 and 22, not 14) loads early what
// the next terms need, and keeps sums in memory instead: 55 GFLOP/s, 99 with this and finish_term, GCC 95 (Zen 3).
template <class Real>
FASTGRU_INLINE void add_product(Vec<Real>& sum, Vec<Real> x, Vec<Real> y) noexcept {
  sum += x * y;
#ifdef FASTGRU_HASTY_LOADS
  keep_in_register<Real>(sum);
#endif
}

// Nothing is loaded before the products above are done.
FASTGRU_INLINE void finish_term() noexcept {
#ifdef FASTGRU_HASTY_LOADS
  __asm__ volatile("" ::: "memory");
#endif
}

#if defined(__AVX512F__)

FASTGRU_INLINE Vec<float> load_lanes(const float* p, int64_t n) noexcept {
  return reinterpret_cast<Vec<float>>(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), p));
}
FASTGRU_INLINE Vec<double> load_lanes(const double* p, int64_t n) noexcept {
  return reinterpret_cast<Vec<double>>(_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1u), p));
}
FASTGRU_INLINE void store_lanes(float* p, Vec<float> v, int64_t n) noexcept {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1u), reinterpret_cast<__m512>(v));
}
FASTGRU_INLINE void store_lanes(double* p, Vec<double> v, int64_t n) noexcept {
  _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << n) - 1u), reinterpret_cast<__m512d>(v));
}

#elif defined(__AVX2__)

FASTGRU_INLINE __m256i lane_mask(float, int64_t n) noexcept {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
FASTGRU_INLINE __m256i lane_mask(double, int64_t n) noexcept {
  return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
FASTGRU_INLINE Vec<float> load_lanes(const float* p, int64_t n) noexcept {
  return reinterpret_cast<Vec<float>>(_mm256_maskload_ps(p, lane_mask(0.0f, n)));
}
FASTGRU_INLINE Vec<double> load_lanes(const double* p, int64_t n) noexcept {
  return reinterpret_cast<Vec<double>>(_mm256_maskload_pd(p, lane_mask(0.0, n)));
}
FASTGRU_INLINE void store_lanes(float* p, Vec<float> v, int64_t n) noexcept {
  _mm256_maskstore_ps(p, lane_mask(0.0f, n), reinterpret_cast<__m256>(v));
}
FASTGRU_INLINE void store_lanes(double* p, Vec<double> v, int64_t n) noexcept {
  _mm256_maskstore_pd(p, lane_mask(0.0, n), reinterpret_cast<__m256d>(v));
}

#else

template <class Real>
FASTGRU_INLINE Vec<Real> load_lanes(const Real* p, int64_t n) noexcept {
  Vec<Real> v{};
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
template <class Real>
FASTGRU_INLINE void store_lanes(Real* p, Vec<Real> v, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
}

#endif

// Lane i of the result is lane from(i) of a, or lane from(i) - kLanes of b; `from` is a constant function. Clang has its
// own word for it, which GCC knows from 12 on.
template <class Real, class From, int64_t... I>
FASTGRU_INLINE Vec<Real> shuffle(Vec<Real> a, Vec<Real> b, From from, std::integer_sequence<int64_t, I...>) noexcept {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, static_cast<int>(from(I))...);
#else
  using Int = typename Simd<Real>::Int;
  // As constants: calls of `from`, inlined everywhere, would take gigabytes to compile without optimisation.
  using Lane = std::decay_t<decltype(Int{}[0])>;
  return __builtin_shuffle(a, b, Int{std::integral_constant<Lane, static_cast<Lane>(from(I))>::value...});
#endif
}
template <class Real, class From>
FASTGRU_INLINE Vec<Real> shuffle(Vec<Real> a, Vec<Real> b, From from) noexcept {
  return shuffle<Real>(a, b, from, std::make_integer_sequence<int64_t, kLanes<Real>>());
}

// Vectors are made of pieces of 16 bytes, in which numbers change places fast.
template <class Real>
constexpr int64_t kPiece = 16 / static_cast<int64_t>(sizeof(Real));

template <class Real>
using Piece __attribute__((vector_size(16))) = Real;

// The first n of kPiece numbers, others zero.
template <class Real>
FASTGRU_INLINE Piece<Real> load_piece(const Real* p, int64_t n) noexcept {
#if defined(__AVX2__)
  if constexpr (sizeof(Real) == 4) {
    const __m128i mask = _mm_cmpgt_epi32(_mm_set1_epi32(static_cast<int>(n)), _mm_setr_epi32(0, 1, 2, 3));
    return reinterpret_cast<Piece<Real>>(_mm_maskload_ps(p, mask));
  } else {
    const __m128i mask = _mm_cmpgt_epi64(_mm_set1_epi64x(n), _mm_set_epi64x(1, 0));
    return reinterpret_cast<Piece<Real>>(_mm_maskload_pd(p, mask));
  }
#else
  Piece<Real> piece{};
  for (int64_t i = 0; i < n; ++i) piece[i] = p[i];
  return piece;
#endif
}

// A vector of the pieces piece(0), piece(1), ..
template <class Real, class F>
FASTGRU_INLINE Vec<Real> join_pieces(F piece) noexcept {
#if defined(__AVX512F__)
  __m512 v = _mm512_castps128_ps512(reinterpret_cast<__m128>(piece(0)));
  v = _mm512_insertf32x4(v, reinterpret_cast<__m128>(piece(1)), 1);
  v = _mm512_insertf32x4(v, reinterpret_cast<__m128>(piece(2)), 2);
  return reinterpret_cast<Vec<Real>>(_mm512_insertf32x4(v, reinterpret_cast<__m128>(piece(3)), 3));
#elif defined(__AVX2__)
  const __m256 v = _mm256_castps128_ps256(reinterpret_cast<__m128>(piece(0)));
  return reinterpret_cast<Vec<Real>>(_mm256_insertf128_ps(v, reinterpret_cast<__m128>(piece(1)), 1));
#else
  return piece(0);
#endif
}

// kPart: only the first n lanes exist in memory.
template <bool kPart, class Real>
FASTGRU_INLINE Vec<Real> load_if(const Real* p, int64_t n) noexcept {
  if constexpr (kPart) return load_lanes(p, n);
  return load(p);
}

template <bool kPart, class Real>
FASTGRU_INLINE void store_if(Real* p, Vec<Real> v, int64_t n) noexcept {
  if constexpr (kPart) {
    store_lanes(p, v, n);
  } else {
    store(p, v);
  }
}

// The smaller or larger of each pair, x where it is NaN: the comparisons are then false, and the
// instructions take their second operand.
template <class Real>
FASTGRU_INLINE Vec<Real> at_most(Vec<Real> x, Real high) noexcept {
  const Vec<Real> bound = splat(high);
#if defined(__AVX512F__)
  if constexpr (sizeof(Real) == 4) {
    return reinterpret_cast<Vec<Real>>(_mm512_min_ps(reinterpret_cast<__m512>(bound), reinterpret_cast<__m512>(x)));
  }
#endif
  return bound < x ? bound : x;
}

template <class Real>
FASTGRU_INLINE Vec<Real> at_least(Vec<Real> x, Real low) noexcept {
  const Vec<Real> bound = splat(low);
#if defined(__AVX512F__)
  if constexpr (sizeof(Real) == 4) {
    return reinterpret_cast<Vec<Real>>(_mm512_max_ps(reinterpret_cast<__m512>(bound), reinterpret_cast<__m512>(x)));
  }
#endif
  return bound > x ? bound : x;
}

// a / b, for b finite and not 0. A zmm float division takes its port for 10 to 16 cycles; this takes it for 3.
// The reciprocal is good to 2^-14, and one step of Newton's on the quotient leaves the rounding.
template <class Real>
FASTGRU_INLINE Vec<Real> divide(Vec<Real> a, Vec<Real> b) noexcept {
#if defined(__AVX512F__)
  if constexpr (sizeof(Real) == 4) {
    const auto reciprocal = reinterpret_cast<Vec<Real>>(_mm512_rcp14_ps(reinterpret_cast<__m512>(b)));
    const Vec<Real> quotient = a * reciprocal;
    return quotient + (a - quotient * b) * reciprocal;
  }
#endif
  return a / b;
}

// e^x = scale * (1 + m): kept apart because e^x - 1 = scale * m + (scale - 1) loses nothing near 0.
template <class Real>
struct Exponential {
  Vec<Real> scale, m;
};

// x within [kExpLow, -kExpLow]. The scale is a factor of its own, not added to exponent bits, so that a
// NaN with any payload stays NaN.
template <class Real>
FASTGRU_INLINE Exponential<Real> exponential(Vec<Real> x) noexcept {
  using S = Simd<Real>;
  const Vec<Real> shifted = x * S::kLog2e + S::kRound, n = shifted - S::kRound;
  const Vec<Real> r = (x - n * S::kLn2High) - n * S::kLn2Low, r2 = r * r;
  const auto bits = (reinterpret_cast<typename S::Int>(shifted) << S::kMantissaBits) + S::kExponentOfOne;
  return {reinterpret_cast<Vec<Real>>(bits), r + r2 * S::expm1_tail(r, r2)};
}

// 1 / (1 + e^-x). Relative error at most 3e-7 (float), 5e-16 (double) down to x = kExpLow, exactly 0 below,
// and 1 at infinity: torch's sigmoid of -inf is 0 and makes NaN of inf * r, so ours must.
template <class Real>
FASTGRU_INLINE Vec<Real> sigmoid(Vec<Real> x) noexcept {
  using S = Simd<Real>;
  const Exponential<Real> e = exponential<Real>(at_least<Real>(at_most<Real>(-x, -S::kExpLow), S::kExpLow));
  const Vec<Real> y = divide<Real>(splat(Real(1)), Real(1) + (e.scale + e.scale * e.m));
  return x < S::kExpLow ? Vec<Real>{} : y;
}

// (e^2x - 1) / (e^2x + 1), with e^2x - 1 accurate near 0. Relative error at most 3e-7 (float), 1e-15 (double).
template <class Real>
FASTGRU_INLINE Vec<Real> tanh(Vec<Real> x) noexcept {
  using S = Simd<Real>;
  const Exponential<Real> e =
      exponential<Real>(at_least<Real>(at_most<Real>(x + x, 2 * S::kTanhLimit), -2 * S::kTanhLimit));
  const Vec<Real> expm1 = e.scale * e.m + (e.scale - Real(1));
  return divide<Real>(expm1, expm1 + Real(2));
}

}  // namespace
}  // namespace fastgru
