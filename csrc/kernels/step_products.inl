// Products of a few vectors with rows of weights as they lie in memory, of a single step.
#pragma once

#include "packing.inl"

namespace fastgru {
namespace {

// Rows of weights walked along at once. They come from L2, which gives lines that follow each other faster than those
// of many rows or of two matrices in turns.
constexpr int64_t kRowsAtOnce = 4;
// Sequences multiplied with them at once: as many as there are registers for the sums.
constexpr int kDotRows = static_cast<int>(min_of(4, kAccumulators / kRowsAtOnce));

// sums[m][i] += the products of row first + i of w with v[m], lane by lane; rows from `units` on repeat the last.
template <class Real, int M, int64_t R>
FASTGRU_INLINE void add_products(const Real* w, const Real* const (&v)[M], int64_t K, int64_t first, int64_t units,
                                 Vec<Real> (&sums)[M][R]) noexcept {
  constexpr int64_t W = kLanes<Real>;
  const Real* rows[R];
#pragma GCC unroll 4
  for (int64_t i = 0; i < R; ++i) rows[i] = w + min_of(first + i, units - 1) * K;
  int64_t k = 0;
  for (; k + W <= K; k += W) {
    Vec<Real> x[M];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) x[m] = load(v[m] + k);
#pragma GCC unroll 4
    for (int64_t i = 0; i < R; ++i) {
      Vec<Real> y = load(rows[i] + k);
      if constexpr (M > 1) keep_in_register<Real>(y);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) sums[m][i] += y * x[m];
    }
  }
  if (k == K) return;
#pragma GCC unroll 4
  for (int64_t i = 0; i < R; ++i) {
    const Vec<Real> y = load_lanes(rows[i] + k, K - k);
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) sums[m][i] += y * load_lanes(v[m] + k, K - k);
  }
}

// to[m][i] = w_i . v[m] + bias[i] for kLanes rows of w [.., K], of which the first `units` exist, and zero beyond; bias
// may be null.
template <class Real, int M>
[[gnu::noinline]] void multiply_rows(const Real* w, const Real* const (&v)[M], int64_t K, int64_t units,
                                     const Real* bias, Real* const (&to)[M]) noexcept {
  constexpr int64_t W = kLanes<Real>, R = min_of(kRowsAtOnce, W);
  Vec<Real> rows[M][W];
#pragma GCC unroll 16
  for (int64_t first = 0; first < W; first += R) {
    Vec<Real> sums[M][R];  // not `rows` itself, which GCC would keep in memory meanwhile
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
      for (int64_t i = 0; i < R; ++i) sums[m][i] = Vec<Real>{};
    }
    add_products<Real, M, R>(w, v, K, first, units, sums);
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
      for (int64_t i = 0; i < R; ++i) rows[m][first + i] = sums[m][i];
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
    const Vec<Real> sum = sum_lanes<Real>(rows[m]);
    store(to[m], bias ? load_lanes(bias, units) + sum : sum);
    if (units < W) store(to[m], load_lanes(to[m], units));
  }
}

// One gate of kLanes units, of which `units` exist: its rows of w [.., K], what its sums start from, and where they go.
template <class Real>
struct StepBlock {
  const Real* rows;
  int64_t units;
  Vec<Real> start;
  int64_t to;
};

// Blocks multiplied at once in order.
constexpr int kOrderedBlocks = 2;

// sums[m][g] += w_g[..][k + i] * v[m][k + i] for `count` of kPiece i (all of them, unless kPart), one after the other.
// rows[g]: where block g begins, of `units`, all if kWhole; rows beyond them repeat the last.
template <class Real, bool kWhole, bool kPart, int M, int G>
FASTGRU_INLINE void add_columns(const Real* const (&rows)[G], int64_t units, const Real* const (&v)[M], int64_t K,
                                int64_t k, int64_t count, Vec<Real> (&sums)[M][G]) noexcept {
  constexpr int64_t P = kPiece<Real>;
  Vec<Real> x[P];  // of a single sequence in registers: loads are what limits
  for (int64_t i = 0; i < P && !kPart && M == 1; ++i) {
    x[i] = splat(v[0][k + i]);
    keep_in_register<Real>(x[i]);
  }
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g) {
    Vec<Real> columns[P];
    const auto row = [&](int64_t u) __attribute__((always_inline)) {
      return rows[g] + (kWhole ? u : min_of(u, units - 1)) * K + k;
    };
    load_columns<Real, kPart>(row, count, columns);
#pragma GCC unroll 4
    for (int64_t i = 0; i < P; ++i) {
      if (kPart && i == count) break;
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) sums[m][g] += (!kPart && M == 1 ? x[i] : splat(v[m][k + i])) * columns[i];
    }
  }
}

// to[m][block.to ..] = start + w v[m], zero beyond the units, for G blocks that have all units (kWhole) or as many as
// each other. These are the bits of multiply_tile: each sum is one chain of k = 0, 1, .. from its start on. The rows
// are transposed on the way: 1.0 of multiply_rows' time at K = 64, 1.2 at 128, 1.4 at 512.
template <class Real, int M, int G, bool kWhole>
[[gnu::noinline]] void multiply_in_order(const StepBlock<Real>* blocks, int64_t K, const Real* const (&v)[M],
                                         Real* const (&to)[M]) noexcept {
  constexpr int64_t P = kPiece<Real>, kLine = 4 * P;  // a cache line of each row at a time
  const int64_t units = blocks[0].units;
  Vec<Real> sums[M][G];
  const Real* rows[G];
#pragma GCC unroll 4
  for (int g = 0; g < G; ++g) {
    rows[g] = blocks[g].rows;
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) sums[m][g] = blocks[g].start;
  }
  int64_t k = 0;
  for (; k + kLine <= K; k += kLine) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < kLine; i += P) add_columns<Real, kWhole, false>(rows, units, v, K, k + i, P, sums);
  }
  for (; k + P <= K; k += P) add_columns<Real, kWhole, false>(rows, units, v, K, k, P, sums);
  if (k < K) add_columns<Real, kWhole, true>(rows, units, v, K, k, K - k, sums);
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
      Real* at = to[m] + blocks[g].to;
      store(at, sums[m][g]);
      if constexpr (!kWhole) store(at, load_lanes(at, units));
    }
  }
}

// Blocks of one matrix that are multiplied next: a few of equally many units.
template <class Real>
class StepBlocks {
 public:
  explicit StepBlocks(int64_t terms) noexcept : K_(terms) {}

  bool takes(int64_t units) const noexcept {
    return count_ == 0 || (count_ < kOrderedBlocks && blocks_[0].units == units);
  }
  void add(const StepBlock<Real>& block) noexcept { blocks_[count_++] = block; }
  void clear() noexcept { count_ = 0; }

  template <int M>
  FASTGRU_INLINE void multiply(const Real* const (&v)[M], Real* const (&to)[M]) const noexcept {
    blocks_[0].units == kLanes<Real> ? multiply<M, true>(v, to) : multiply<M, false>(v, to);
  }

 private:
  template <int M, bool kWhole>
  FASTGRU_INLINE void multiply(const Real* const (&v)[M], Real* const (&to)[M]) const noexcept {
    if (count_ == 1) return multiply_in_order<Real, M, 1, kWhole>(blocks_, K_, v, to);
    multiply_in_order<Real, M, kOrderedBlocks, kWhole>(blocks_, K_, v, to);
  }

  const int64_t K_;
  int64_t count_ = 0;
  StepBlock<Real> blocks_[kOrderedBlocks];
};

// Sequences beyond which a block of weights is packed first, in L1, for all of them.
constexpr int64_t kDotSequences = 8;

// Products of a step's sequences with matrices [kGates * H, K]. Those of a sequence are blocks [kGates][kLanes] of
// units, zero beyond H; `pitch` further are those of the next.
template <class Real>
class StepProducts {
 public:
  // panel: scratch, `elements` of it. in_order: the bits are those of multiply_tile.
  StepProducts(int64_t H, Range rows, int64_t pitch, bool in_order, Real* panel) noexcept
      : H_(H), rows_(rows), pitch_(pitch), in_order_(in_order), panel_(panel) {}

  // Of a block of packed weights and its products. K: the largest.
  static int64_t elements(int64_t B, int64_t K) noexcept {
    return B > kDotSequences ? (K + 1 + kForwardRows) * 3 * W : 0;
  }

  // So many gates of W v + bias of all sequences, from(b) being v; to: the first one's blocks. start: what a block's
  // sums start from where their order matters.
  template <int kGates, class Start, class From>
  void multiply(const Real* w, int64_t K, const Real* bias, Start start, From from, Real* to) const noexcept {
    if (rows_.size() > kDotSequences) return multiply_packed<kGates>(w, K, start, from, to);
    if (in_order_) return multiply_in_order<kGates>(w, K, start, from, to);
    for (int64_t gate = 0; gate < kGates; ++gate) {
      for (int64_t unit = 0; unit < H_; unit += W) {
        const int64_t row = gate * H_ + unit, units = min_of(W, H_ - unit);
        for_sequences(from, to + unit * kGates + gate * W, [&](const auto& v, const auto& out) {
          multiply_rows<Real>(w + row * K, v, K, units, bias ? bias + row : nullptr, out);
        });
      }
    }
  }

 private:
  static constexpr int64_t W = kLanes<Real>;

  template <int kGates, class Start, class From>
  void multiply_in_order(const Real* w, int64_t K, Start start, From from, Real* to) const noexcept {
    StepBlocks<Real> blocks(K);
    const auto flush = [&] {
      for_sequences(from, to, [&](const auto& v, const auto& out) { blocks.multiply(v, out); });
      blocks.clear();
    };
    for (int64_t gate = 0; gate < kGates; ++gate) {
      for (int64_t unit = 0; unit < H_; unit += W) {
        const int64_t units = min_of(W, H_ - unit);
        if (!blocks.takes(units)) flush();
        blocks.add({w + (gate * H_ + unit) * K, units, start(gate, unit, units), unit * kGates + gate * W});
      }
    }
    flush();
  }

  // Calls f(v [M], out [M]) for each few of the sequences: from(b) of each, and where its products go; to: the first's.
  template <class From, class F>
  FASTGRU_INLINE void for_sequences(From from, Real* to, F f) const noexcept {
    for_tiles(rows_, kDotRows, [&](int64_t b, int64_t m) {
      take_sequences<kDotRows>(m, [&](int64_t i) -> const Real* { return from(b + i); },
                               to + (b - rows_.begin) * pitch_, f);
    });
  }

  template <int M, class From, class F>
  FASTGRU_INLINE void take_sequences(int64_t count, From from, Real* to, F f) const noexcept {
    if constexpr (M > 1) {
      if (count < M) return take_sequences<M - 1>(count, from, to, f);
    }
    const Real* v[M];
    Real* out[M];
    for (int m = 0; m < M; ++m) v[m] = from(m), out[m] = to + m * pitch_;
    f(v, out);
  }

  // Panels of three vectors of columns, be they of one gate or of several.
  template <int kGates, class Start, class From>
  void multiply_packed(const Real* w, int64_t K, Start start_of, From from, Real* to) const noexcept {
    constexpr int64_t kWidth = 3 * W;
    const int64_t vectors = divide_up(H_, W) * kGates, pitch = from(rows_.begin + 1) - from(rows_.begin);
    Real *panel = panel_, *start = panel + K * kWidth, *c = start + kWidth;
    for (int64_t first = 0; first < vectors; first += 3) {
      const int64_t count = min_of(3, vectors - first);
      for (int64_t i = 0; i < 3; ++i) {
        const int64_t unit = (first + i) / kGates * W, gate = (first + i) % kGates;
        const int64_t units = i < count ? min_of(W, H_ - unit) : 0;
        pack_gate(units > 0 ? w + (gate * H_ + unit) * K : w, K, units, kWidth, panel + i * W);
        store(start + i * W, units > 0 ? start_of(gate, unit, units) : Vec<Real>{});
      }
      for_tiles(rows_, kForwardRows, [&](int64_t b, int64_t m) {
        ::fastgru::multiply<Real, kForwardRows, 3>(m, from(b), pitch, panel, K, start, c, nullptr);
        Real* out = to + (b - rows_.begin) * pitch_ + first * W;
        for (int64_t i = 0; i < m; ++i, out += pitch_) {
          for (int64_t v = 0; v < count; ++v) store(out + v * W, load(c + i * kWidth + v * W));
        }
      });
    }
  }

  const int64_t H_;
  const Range rows_;
  const int64_t pitch_;
  const bool in_order_;
  Real* panel_;
};

}  // namespace
}  // namespace fastgru
