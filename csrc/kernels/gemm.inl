// Products of a few rows with a packed panel. A panel holds, for each k, kVectors vectors of columns:
// [K][kVectors][kLanes]. Every function here that is not inlined is kept apart from the gate arithmetic on
// purpose: compiled as one, GCC 12 spills the accumulators (16.1 against 12.7 ms at I = H = 256, B = 32).
#pragma once

#include "range.inl"

namespace fastgru {
namespace {

// What a product starts from where nothing is added to it: as wide as the widest tile.
template <class Real>
alignas(64) constexpr Real kZeros[kAccumulators * kLanes<Real>] = {};

// Few rows leave few independent sums, and a sum can grow only every 4 cycles: so many panels are then multiplied at
// once, as far as the registers go. No sum is ever split in parts: it is one chain of k = 0, 1, .. from its start on,
// however many rows there are, and so a row has the same bits in any company.
template <int M, int kVectors>
constexpr int kPanelsAtOnce = 4 * M * kVectors <= kAccumulators                              ? 4
                              : (M < 4 || kVectors == 1) && 2 * M * kVectors <= kAccumulators ? 2
                                                                                             : 1;

// c[m] = start + sum_k a[m * lda + k] * panel[k], m < M, kVectors vectors a row. `ahead`, where it is not null, is
// fetched into L2 meanwhile: a quarter of a panel, so that four tiles fetch the next one. GCC's copy of it for kZeros
// kept sums in memory, and layer norm took 1.2 of its time.
template <class Real, int M, int kVectors>
FASTGRU_KEPT_APART void multiply_tile(const Real* a, int64_t lda, const Real* panel, int64_t K, const Real* start,
                                      Real* c, const Real* ahead) noexcept {
  constexpr int kWidth = kVectors * static_cast<int>(kLanes<Real>);
  Vec<Real> sum[M][kVectors];
  const Real* rows[M];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) rows[m] = a + m * lda;
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sum[m][v] = load(start + v * kLanes<Real>);
  }
  const auto multiply = [&](int64_t k) __attribute__((always_inline)) {
    Vec<Real> b[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      b[v] = load(panel + k * kWidth + v * kLanes<Real>);
      if constexpr (M > 1) keep_in_register<Real>(b[v]);
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const Vec<Real> x = splat(rows[m][k]);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) add_product<Real>(sum[m][v], x, b[v]);
    }
    finish_term();
  };
  int64_t k = 0;
  if (M > 3 && ahead) {
    for (; k + 4 <= K; k += 4) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) multiply(k + i);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) __builtin_prefetch(ahead + k / 4 * kWidth + v * kLanes<Real>, 0, 2);
    }
  }
  for (; k + 4 <= K; k += 4) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) multiply(k + i);
  }
  for (; k < K; ++k) multiply(k);
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) store(c + m * kWidth + v * kLanes<Real>, sum[m][v]);
  }
}

// multiply_tile of P panels, `pitch` apart; their starts follow each other, and their products are `ldc` apart. Numbers
// of the few rows stay in registers, and one vector of the panels: with three of each, GCC keeps sums in memory.
template <class Real, int M, int kVectors, int P>
[[gnu::noinline]] void multiply_across(const Real* a, int64_t lda, const Real* panel, int64_t pitch, int64_t K,
                                       const Real* start, Real* c, int64_t ldc) noexcept {
  constexpr int64_t W = kLanes<Real>, kWidth = kVectors * W;
  Vec<Real> sum[P][M][kVectors];
  const Real *rows[M], *panels[P];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) rows[m] = a + m * lda;
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
    panels[p] = panel + p * pitch;
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[p][m][v] = load(start + p * kWidth + v * W);
    }
  }
#pragma GCC unroll 4
  for (int64_t k = 0; k < K; ++k) {
    Vec<Real> x[M];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) x[m] = splat(rows[m][k]);
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        Vec<Real> b = load(panels[p] + k * kWidth + v * W);
        if constexpr (M > 1) keep_in_register<Real>(b);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) add_product<Real>(sum[p][m][v], x[m], b);
      }
    }
    finish_term();
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) store(c + p * ldc + m * kWidth + v * W, sum[p][m][v]);
    }
  }
}

// multiply_tile for 1 <= rows <= M.
template <class Real, int M, int kVectors>
FASTGRU_INLINE void multiply(int64_t rows, const Real* a, int64_t lda, const Real* panel, int64_t K, const Real* start,
                             Real* c, const Real* ahead) noexcept {
  if constexpr (M > 1) {
    if (rows < M) return multiply<Real, M - 1, kVectors>(rows, a, lda, panel, K, start, c, ahead);
  }
  multiply_tile<Real, M, kVectors>(a, lda, panel, K, start, c, ahead);
}

// Weights up to this stay in the L2 of a core.
constexpr int64_t kWeightBytesPerCore = 1 << 20;

// The other side of a product: rows of K numbers, `pitch` apart.
template <class Real>
struct Rows {
  const Real* data;
  int64_t pitch;
  Range range;
};

// Where products go: that of a tile with a panel, and `pitch` further that with the next panel.
template <class Real>
struct Products {
  Real* data;
  int64_t pitch;
};

// Packed panels, `pitch` apart, of which a thread multiplies with those of `range`.
template <class Real, int kVectors>
struct Panels {
  static constexpr int64_t kWidth = kVectors * kLanes<Real>;
  static constexpr int kVectorsOfRow = kVectors;
  const Real* data;
  Range range;
  int64_t K, pitch;
  const Real* start;  // [panels][kWidth]: what the sums start from, or null: zero

  Panels(const Real* panels, Range own, int64_t terms, const Real* sums) noexcept
      : Panels(panels, own, terms, terms * kWidth, sums) {}
  Panels(const Real* panels, Range own, int64_t terms, int64_t apart, const Real* sums) noexcept
      : data(panels), range(own), K(terms), pitch(apart), start(sums) {}

  FASTGRU_INLINE const Real* start_of(int64_t j) const noexcept { return start ? start + j * kWidth : kZeros<Real>; }

  // What the tile that begins at `row` fetches of the panel after j; null where all of them stay in L2 anyway.
  FASTGRU_INLINE const Real* ahead(int64_t j, int64_t row, int64_t tile) const noexcept {
    if (range.size() * pitch * static_cast<int64_t>(sizeof(Real)) <= kWeightBytesPerCore) return nullptr;
    const int64_t next = j + 1 == range.end ? range.begin : j + 1;  // the next step begins there
    return data + next * pitch + row / tile % 4 * (K * kWidth / 4);
  }

  // The products of M rows with P panels from j on.
  template <int M, int P>
  FASTGRU_INLINE void multiply(int64_t j, const Rows<Real>& a, int64_t row, const Products<Real>& to) const noexcept {
    const Real *rows = a.data + row * a.pitch, *panel = data + j * pitch;
    if constexpr (P > 1) {
      multiply_across<Real, M, kVectors, P>(rows, a.pitch, panel, pitch, K, start_of(j), to.data, to.pitch);
    } else {
      multiply_tile<Real, M, kVectors>(rows, a.pitch, panel, K, start_of(j), to.data, ahead(j, row, M));
    }
  }
};

// Panels multiplied at once with 1 <= rows <= M.
template <int M, int kVectors>
constexpr int64_t panels_at_once(int64_t rows) noexcept {
  if constexpr (M > 1) {
    if (rows < M) return panels_at_once<M - 1, kVectors>(rows);
  }
  return kPanelsAtOnce<M, kVectors>;
}

// How many of the panels left come next, at most `most`: no single one is left over. Without a division, of which the
// smallest layers would feel each.
constexpr int64_t next_panels(int64_t left, int64_t most) noexcept {
  return left <= most ? left : left < 2 * most ? divide_up(left, 2) : most;
}

// What follows multiplies rows with panels of any kind: Panels, or those of low_panels.inl.

// The products of M rows with `count` panels from j on, 1 <= count <= P.
template <int M, int P, class Panels, class Rows, class To>
FASTGRU_INLINE void multiply_at_once(const Panels& panels, int64_t j, int64_t count, const Rows& a, int64_t row,
                                     const To& to) noexcept {
  if constexpr (P > 1) {
    if (count < P) return multiply_at_once<M, P - 1>(panels, j, count, a, row, to);
  }
  panels.template multiply<M, P>(j, a, row, to);
}

// Those of a tile of 1 <= rows <= M, 1 <= count <= kPanelsAtOnce of the rows. Rows are told apart first, then panels:
// asked for in turns, everything inlined, they would be copied for each way to come to them.
template <int M, class Panels, class Rows, class To>
FASTGRU_INLINE void multiply_few(const Panels& panels, int64_t j, int64_t count, const Rows& a, int64_t row,
                                 int64_t rows, const To& to) noexcept {
  if constexpr (M > 1) {
    if (rows < M) return multiply_few<M - 1>(panels, j, count, a, row, rows, to);
  }
  multiply_at_once<M, kPanelsAtOnce<M, Panels::kVectorsOfRow>>(panels, j, count, a, row, to);
}

// Those of a tile of 1 <= rows <= M with a single panel.
template <int M, class Panels, class Rows, class To>
FASTGRU_INLINE void multiply_one(const Panels& panels, int64_t j, const Rows& a, int64_t row, int64_t rows,
                                 const To& to) noexcept {
  if constexpr (M > 1) {
    if (rows < M) return multiply_one<M - 1>(panels, j, a, row, rows, to);
  }
  panels.template multiply<M, 1>(j, a, row, to);
}

// multiply_panels for few rows: up to `most` panels at once with the smallest of its tiles.
template <int M, class Panels, class Rows, class To, class Done>
FASTGRU_INLINE void multiply_few_rows(const Panels& panels, const Rows& a, int64_t most, To to, Done done) noexcept {
  for (int64_t begin = panels.range.begin, end; begin < panels.range.end; begin = end) {
    end = begin + next_panels(panels.range.end - begin, most);
    for_tiles(a.range, M, [&](int64_t row, int64_t m) __attribute__((always_inline)) {
      const int64_t at_once = panels_at_once<M, Panels::kVectorsOfRow>(m);
      for (int64_t j = begin, n; j < end; j += n) {
        n = next_panels(end - j, at_once);
        const auto products = to(j, row, m);
        multiply_few<M>(panels, j, n, a, row, m, products);
        for (int64_t p = 0; p < n; ++p) done(j + p, row, m, products.data + p * products.pitch);
      }
    });
  }
}

// Panel by panel, or a few of them at once, the products of tiles of at most M rows: those of a tile with up to
// kPanelsAtOnce panels go to to(first panel, row, rows of the tile), then done(panel, row, rows of the tile, product)
// is called for each.
template <int M, class Panels, class Rows, class To, class Done>
FASTGRU_INLINE void multiply_panels(const Panels& panels, const Rows& a, To to, Done done) noexcept {
  if (a.range.size() <= 0) return;
  const int64_t most = panels_at_once<M, Panels::kVectorsOfRow>(a.range.size() / divide_up(a.range.size(), M));
  if (most > 1) return multiply_few_rows<M>(panels, a, most, to, done);
  for (int64_t j = panels.range.begin; j < panels.range.end; ++j) {
    for_tiles(a.range, M, [&](int64_t row, int64_t m) __attribute__((always_inline)) {
      const auto products = to(j, row, m);
      multiply_one<M>(panels, j, a, row, m, products);
      done(j, row, m, products.data);
    });
  }
}

// c[m] = sum_k a[k][m] * panel[k], a packed as [K][M], two vectors a row. `out` is where c will be added
// to: asked for early, because it has long left the cache (rows ldo apart).
template <class Real, int M>
[[gnu::noinline]] void outer_tile(const Real* a, const Real* panel, int64_t K, Real* c, const Real* out,
                                  int64_t ldo) noexcept {
  constexpr int64_t W = kLanes<Real>;
  Vec<Real> sum[M][2] = {};
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    __builtin_prefetch(out + m * ldo, 1, 3);
    __builtin_prefetch(out + m * ldo + W, 1, 3);
  }
#pragma GCC unroll 4
  for (int64_t k = 0; k < K; ++k) {
    const Vec<Real> b0 = load(panel + 2 * W * k), b1 = load(panel + 2 * W * k + W);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const Vec<Real> x = splat(a[k * M + m]);
      sum[m][0] += x * b0;
      sum[m][1] += x * b1;
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    store(c + m * 2 * W, sum[m][0]);
    store(c + m * 2 * W + W, sum[m][1]);
  }
}

// Copies the first n of kLanes numbers (all if n is more) and zeroes the rest.
template <class Real>
FASTGRU_INLINE void copy_padded(Real* to, const Real* from, int64_t n) noexcept {
  store(to, n >= kLanes<Real> ? load(from) : load_lanes(from, max_of(n, 0)));
}

}  // namespace
}  // namespace fastgru
