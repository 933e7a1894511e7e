// Operands of the backward pass rounded to bfloat16, for AVX-512 BF16: two terms of a sum side by side. Sums are float.
#pragma once

#include "low_panels.inl"
#include "operands.inl"

namespace fastgru {
namespace {

// The first n numbers; zero beyond.
FASTGRU_INLINE Vec<float> load_first(const float* p, int64_t n) noexcept {
  return n >= kLanes<float> ? load(p) : load_lanes(p, max_of(n, 0));
}

// Rounded, those of `first` and then those of `second`: each two next to each other are a lane's.
FASTGRU_INLINE Vec<float> rounded_row(Vec<float> first, Vec<float> second) noexcept {
  const __m512bh both = _mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(second), reinterpret_cast<__m512>(first));
  return reinterpret_cast<Vec<float>>(both);
}

// Rounded, a lane of `first` and the same lane of `second` in one.
FASTGRU_INLINE Vec<float> rounded_pairs(Vec<float> first, Vec<float> second) noexcept {
  const auto wide = [](Vec<float> v) __attribute__((always_inline)) {
    return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(reinterpret_cast<__m512>(v))));
  };
  return reinterpret_cast<Vec<float>>(_mm512_or_si512(wide(first), _mm512_slli_epi32(wide(second), 16)));
}

// As RealOperands; a group of two rounded terms takes the place of one float.
struct Bf16Operands {
  using Real = float;
  static constexpr int64_t W = kLanes<float>, W2 = 2 * W, kTerms = 2;

  static void pack(const float* w, int64_t H, int64_t N, int64_t first_row, Range panels, float* to) noexcept {
    const int64_t K = 3 * H, groups = divide_up(K, kTerms);
    const auto row_of = [&](int64_t k) { return w + (first_row + k < K ? first_row + k : first_row + k - K) * N; };
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t k = group * kTerms;
      const float *first = row_of(k), *second = k + 1 < K ? row_of(k + 1) : nullptr;
      for (int64_t panel = panels.begin; panel < panels.end; ++panel) {
        for (int64_t column = panel * W2; column < panel * W2 + W2; column += W) {
          const Vec<float> a = load_first(first + column, N - column);
          const Vec<float> b = second ? load_first(second + column, N - column) : Vec<float>{};
          store(to + (panel * groups + group) * W2 + column % W2, rounded_pairs(a, b));
        }
      }
    }
  }
  static LowPanels<Bf16, 2> panels(const float* packed, Range own, int64_t H, int64_t first, int64_t K) noexcept {
    const auto* data = reinterpret_cast<const uint8_t*>(packed + first / kTerms * W2);
    const int64_t pitch = divide_up(3 * H, kTerms) * 2 * Bf16::kBytes;
    return {{data, divide_up(K, kTerms), pitch, nullptr, nullptr, nullptr}, own};
  }

  static int64_t encoded_elements(int64_t rows, int64_t K) noexcept { return rows * encoded_pitch(K); }
  static EncodedRows<Bf16> encode(const Rows<float>& rows, int64_t K, float* memory) noexcept {
    const int64_t pitch = encoded_pitch(K);
    for (int64_t b = 0; b < rows.range.end; ++b) {
      const float* from = rows.data + b * rows.pitch;
      float* to = memory + b * pitch;
      for (int64_t k = 0; k < K; k += W2) {
        store(to + k / kTerms, rounded_row(load_first(from + k, K - k), load_first(from + k + W, K - k - W)));
      }
    }
    return {reinterpret_cast<const Bf16::Word*>(memory), pitch, nullptr, rows.range};
  }

  static int64_t row_pitch(int64_t) noexcept { return kTerms * W2; }
  static float* row_at(float*, float* held, int64_t row) noexcept { return held + row % kTerms * W2; }
  static void finish_row(float* panels, float* held, int64_t count, int64_t chunk, int64_t row, bool last) noexcept {
    const bool is_second = row % kTerms == 1;
    if (!is_second && !last) return;
    float* to = panels + row / kTerms * W2;
    for (int64_t panel = 0; panel < count; ++panel, held += kTerms * W2, to += chunk / kTerms * W2) {
      for (int64_t i = 0; i < W2; i += W) {
        store(to + i, rounded_pairs(load(held + i), is_second ? load(held + W2 + i) : Vec<float>{}));
      }
    }
  }

  static void pack_units(const float* from, int64_t pitch, int64_t rows, int64_t units, int64_t room,
                         float* to) noexcept {
    const int64_t groups = room / kTerms;
    for (int64_t unit = 0; unit < units; unit += kOuterRows) {
      const int64_t m = min_of(kOuterRows, units - unit);
      const float* at = from + unit;
      float* out = to + unit * groups;
      for (int64_t k = 0; k < rows; k += kTerms, at += kTerms * pitch, out += kOuterRows) {
        const Vec<float> second = k + 1 < rows ? load_lanes(at + pitch, m) : Vec<float>{};
        store_lanes(out, rounded_pairs(load_lanes(at, m), second), kOuterRows);
      }
    }
  }
  FASTGRU_KEPT_APART static void multiply_outer(const float* a, const float* panel, int64_t K, float* c,
                                                const float* out, int64_t ldo) noexcept {
    constexpr int M = kOuterRows;
    Vec<float> sum[M][2] = {};
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      __builtin_prefetch(out + m * ldo, 1, 3);
      __builtin_prefetch(out + m * ldo + W, 1, 3);
    }
    const auto* words = reinterpret_cast<const Bf16::Word*>(a);
    const auto* vectors = reinterpret_cast<const uint8_t*>(panel);
#pragma GCC unroll 2
    for (int64_t k = 0; k < K; ++k, words += M, vectors += 2 * Bf16::kBytes) {
      const Bf16::Wide b0 = Bf16::load(vectors), b1 = Bf16::load(vectors + Bf16::kBytes);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const Bf16::Spread x = Bf16::spread(words + m);
        Bf16::add(sum[m][0], x, b0);
        Bf16::add(sum[m][1], x, b1);
      }
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      store(c + m * W2, sum[m][0]);
      store(c + m * W2 + W, sum[m][1]);
    }
  }

 private:
  // In floats. Not a power of two, whose rows would fall into few sets of the cache.
  static int64_t encoded_pitch(int64_t K) noexcept { return round_up(divide_up(K, kTerms), W) + W; }
};

}  // namespace
}  // namespace fastgru
