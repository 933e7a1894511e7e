// Products of rows with panels of weights of few bits. Format, Int8 or Bf16, says how such weights lie and are multiplied.
#pragma once

#include "bf16_products.inl"
#include "gemm.inl"
#include "int8_products.inl"

namespace fastgru {
namespace {

// Rows as a format multiplies with them: `pitch` Words from one to the next, and what a whole number of each is worth.
template <class Format>
struct EncodedRows {
  const typename Format::Word* data;
  int64_t pitch;
  const float* scales;  // [rows], of a format that is kScaled
  Range range;
};

// A format's panels, which are as those of float in vectors of kTerms terms.
template <class Format>
struct LowPanel {
  const uint8_t* data;  // [groups of kTerms][kVectors][kBytes]
  int64_t groups, pitch;
  const float* bias;      // [kVectors][kLanes], or null: zero; the next panel's follow
  const float* scale;     // of int8
  const int32_t* offset;  // of int8: what the sums start from
};

// c[m] of P panels, as multiply_across has it.
template <class Format, int M, int kVectors, int P>
FASTGRU_KEPT_APART void low_tile(const typename Format::Word* a, int64_t lda, const float* row_scales,
                                 const LowPanel<Format>& panel, float* c, int64_t ldc) noexcept {
  constexpr int64_t W = kLanes<float>, kWidth = kVectors * W;
  using Sum = typename Format::Sum;
  Sum sum[P][M][kVectors];
  const uint8_t* panels[P];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    panels[p] = panel.data + p * panel.pitch;
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const int64_t at = p * kWidth + v * W;
        if constexpr (Format::kScaled) {
          typedef int32_t Loose __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
          sum[p][m][v] = *reinterpret_cast<const Loose*>(panel.offset + at);
        } else {
          sum[p][m][v] = panel.bias ? load(panel.bias + at) : Vec<float>{};
        }
      }
    }
  }
  for (int64_t k = 0; k < panel.groups; ++k) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const auto w = Format::load(panels[p] + (k * kVectors + v) * Format::kBytes);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) Format::add(sum[p][m][v], Format::spread(a + m * lda + k * Format::kWords), w);
      }
    }
    finish_term();
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const int64_t at = p * kWidth + v * W;
        Vec<float> product = Format::floats(sum[p][m][v]);
        if constexpr (Format::kScaled) {
          product = product * load(panel.scale + at) * row_scales[m];
          keep_in_register<float>(product);  // in one tile it would be fused with the sum, and in another not
          if (panel.bias) product += load(panel.bias + at);
        }
        store(c + p * ldc + m * kWidth + v * W, product);
      }
    }
  }
}

// Those of which a thread multiplies with `range`; as Panels of gemm.inl.
template <class Format, int kVectors>
struct LowPanels {
  static constexpr int kVectorsOfRow = kVectors;
  static constexpr int64_t kWidth = kVectors * kLanes<float>;
  LowPanel<Format> first;
  Range range;

  template <int M, int P, class Rows>
  FASTGRU_INLINE void multiply(int64_t j, const Rows& a, int64_t row, const Products<float>& to) const noexcept {
    LowPanel<Format> panel = first;
    panel.data += j * first.pitch;
    if (panel.bias) panel.bias += j * kWidth;
    const float* row_scales = nullptr;
    if constexpr (Format::kScaled) {
      panel.scale += j * kWidth;
      panel.offset += j * kWidth;
      row_scales = a.scales + row;
    }
    low_tile<Format, M, kVectors, P>(a.data + row * a.pitch, a.pitch, row_scales, panel, to.data, to.pitch);
  }
};

// Rows of float, and room for a panel [K][3][kLanes].
struct RowsAndPanel : Rows<float> {
  float* panel;
};

#if !defined(__AVX512BF16__)

// bfloat16 that no instruction multiplies. Weights cost least as they lie where few rows need them; for more rows each
// panel becomes one of float first, in L1: as they lie these took 1.6 times as long.
template <int M, int kVectors, class To, class Done>
FASTGRU_INLINE void multiply_panels(const LowPanels<Bf16, kVectors>& panels, const RowsAndPanel& a, To to,
                                    Done done) noexcept {
  constexpr int64_t W = kLanes<float>, kWidth = kVectors * W;
  const Rows<float>& rows = a;
  if (rows.range.size() <= 2) return multiply_panels<M>(panels, rows, to, done);
  const LowPanel<Bf16>& first = panels.first;
  for (int64_t j = panels.range.begin; j < panels.range.end; ++j) {
    for (int64_t k = 0; k < first.groups; ++k) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const Bf16::Wide w = Bf16::load(first.data + j * first.pitch + (k * kVectors + v) * Bf16::kBytes);
        store(a.panel + 2 * k * kWidth + v * W, w.first);
        store(a.panel + (2 * k + 1) * kWidth + v * W, w.second);
      }
    }
    const float* start = first.bias ? first.bias + j * kWidth : nullptr;
    const Panels<float, kVectors> panel(a.panel, {0, 1}, first.groups * Bf16::kTerms, start);
    for_tiles(rows.range, kForwardRows, [&](int64_t row, int64_t m) __attribute__((always_inline)) {
      const auto products = to(j, row, m);
      multiply_one<kForwardRows>(panel, 0, rows, row, m, products);
      done(j, row, m, products.data);
    });
  }
}

#endif

}  // namespace
}  // namespace fastgru
