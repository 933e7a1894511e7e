// Products of a few rows with a packed panel. A panel holds, for each k, kVectors vectors of columns:
// [K][kVectors][kLanes]. Every function here that is not inlined is kept apart from the gate arithmetic on
// purpose: compiled as one, GCC 12 spills the accumulators (16.1 against 12.7 ms at I = H = 256, B = 32).
#pragma once

#include "range.inl"

namespace fastgru {
namespace {

// What a product starts from where nothing is added to it: as wide as the widest tile.
template <class Real>
alignas(64) constexpr Real kZeros[3 * kLanes<Real>] = {};

// Few rows leave few independent sums, and a sum can grow only every 4 cycles: K is then split in 2 or 4, as
// far as the registers go.
template <int M, int kVectors>
constexpr int kSums = 4 * M * kVectors <= kAccumulators            ? 4
                      : M < 4 && 2 * M * kVectors <= kAccumulators ? 2
                                                                   : 1;

// c[m] = start + sum_k a[m * lda + k] * panel[k], m < M, kVectors vectors a row. `ahead`, where it is not null,
// is fetched into L2 meanwhile: a quarter of a panel, so that four tiles fetch the next one.
template <class Real, int M, int kVectors>
[[gnu::noinline]] void multiply_tile(const Real* a, int64_t lda, const Real* panel, int64_t K, const Real* start,
                                     Real* c, const Real* ahead) noexcept {
  constexpr int kWidth = kVectors * static_cast<int>(kLanes<Real>);
  constexpr int S = kSums<M, kVectors>;
  Vec<Real> sum[S][M][kVectors] = {};
  const Real* rows[M];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) rows[m] = a + m * lda;
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sum[0][m][v] = load(start + v * kLanes<Real>);
  }
  const auto multiply = [&](int64_t k, int s) __attribute__((always_inline)) {
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
      for (int v = 0; v < kVectors; ++v) sum[s][m][v] += x * b[v];
    }
  };
  int64_t k = 0;
  if (M > 3 && ahead) {
    for (; k + 4 <= K; k += 4) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) multiply(k + i, i % S);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) __builtin_prefetch(ahead + k / 4 * kWidth + v * kLanes<Real>, 0, 2);
    }
  }
  for (; k + 4 <= K; k += 4) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) multiply(k + i, i % S);
  }
  for (; k < K; ++k) multiply(k, 0);
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      Vec<Real> total = sum[0][m][v];
#pragma GCC unroll 4
      for (int s = 1; s < S; ++s) total += sum[s][m][v];
      store(c + m * kWidth + v * kLanes<Real>, total);
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

// Packed panels, `pitch` apart, of which a thread multiplies with those of `range`.
template <class Real, int kVectors>
struct Panels {
  static constexpr int64_t kWidth = kVectors * kLanes<Real>;
  const Real* data;
  Range range;
  int64_t K, pitch;
  const Real* start;  // [panels][kWidth]: what the sums start from, or null: zero

  Panels(const Real* panels, Range own, int64_t terms, const Real* sums) noexcept
      : Panels(panels, own, terms, terms * kWidth, sums) {}
  Panels(const Real* panels, Range own, int64_t terms, int64_t apart, const Real* sums) noexcept
      : data(panels), range(own), K(terms), pitch(apart), start(sums) {}

  // What the tile that begins at `row` fetches of the panel after j; null where all of them stay in L2 anyway.
  FASTGRU_INLINE const Real* ahead(int64_t j, int64_t row, int64_t tile) const noexcept {
    if (range.size() * pitch * static_cast<int64_t>(sizeof(Real)) <= kWeightBytesPerCore) return nullptr;
    const int64_t next = j + 1 == range.end ? range.begin : j + 1;  // the next step begins there
    return data + next * pitch + row / tile % 4 * (K * kWidth / 4);
  }
};

// The other side of a product: rows of K numbers, `pitch` apart.
template <class Real>
struct Rows {
  const Real* data;
  int64_t pitch;
  Range range;
};

// Panel by panel the products of tiles of at most M rows: that of a tile goes to to(panel, row), then
// done(panel, row, rows of the tile) is called.
template <class Real, int M, int kVectors, class To, class Done>
FASTGRU_INLINE void multiply_panels(const Panels<Real, kVectors>& panels, const Rows<Real>& a, To to,
                                    Done done) noexcept {
  for (int64_t j = panels.range.begin; j < panels.range.end; ++j) {
    const Real *panel = panels.data + j * panels.pitch, *start = kZeros<Real>;
    if (panels.start) start = panels.start + j * panels.kWidth;
    for_tiles(a.range, M, [&](int64_t row, int64_t m) __attribute__((always_inline)) {
      multiply<Real, M, kVectors>(m, a.data + row * a.pitch, a.pitch, panel, panels.K, start, to(j, row),
                                  panels.ahead(j, row, m));
      done(j, row, m);
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
