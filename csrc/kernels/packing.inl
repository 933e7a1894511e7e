// A direction's weights as the forward pass reads them.
#pragma once

#include "gemm.inl"
#include "gru.h"

namespace fastgru {
namespace {

// In blocks of kLanes units, gates r z n side by side:
//   w_ih [blocks][I][3][kLanes]   b_ih [blocks][3][kLanes]: b_ih + b_hh for r and z, b_ih for n
//   w_hh [blocks][H][3][kLanes]   b_hh [blocks][3][kLanes]: b_hh for n, zero for r and z
// and, of Form::normed, the gains g_ih and g_hh as the biases. Form::before needs r and z before n:
//   w_hh [blocks][H][2][kLanes], then w_hn [blocks][H][kLanes]; b_ih holds both biases of all gates
// Units beyond H are zero.
template <class Real>
struct Packed {
  static constexpr int64_t kRow = 3 * kLanes<Real>;
  static constexpr int kRows = kForwardRows;  // of a tile
  static constexpr bool kTrained = kTrains;
  const int64_t I, H;
  const Real *w_ih, *w_hh, *w_hn, *b_ih, *b_hh, *g_ih, *g_hh;

  static int64_t blocks(int64_t H) noexcept { return divide_up(H, kLanes<Real>); }
  static int64_t elements(int64_t I, int64_t H) noexcept { return blocks(H) * kRow * (I + H + 4); }
  // Unit blocks `own` of a direction.
  static void pack_blocks(const Parameters<const Real>& from, Form form, int64_t I, int64_t H, Range own,
                          Real* packed) noexcept;

  Packed(const Real* at, int64_t inputs, int64_t units) noexcept
      : I(inputs),
        H(units),
        w_ih(at),
        w_hh(w_ih + blocks(H) * kRow * I),
        w_hn(w_hh + blocks(H) * 2 * kLanes<Real> * H),
        b_ih(w_hh + blocks(H) * kRow * H),
        b_hh(b_ih + blocks(H) * kRow),
        g_ih(b_hh + blocks(H) * kRow),
        g_hh(g_ih + blocks(H) * kRow) {}

  // What a product with rows needs beside the rows as they are.
  static int64_t encoded_elements(int64_t, int64_t) noexcept { return 0; }
  static Rows<Real> encode(const Rows<Real>& rows, int64_t, Real*) noexcept { return rows; }

  // W_ih, and W_hh: all of it, of Form::before that of r and z, and W_hn apart. `biased`: with the biases.
  Panels<Real, 3> inputs(Range own, bool biased) const noexcept { return {w_ih, own, I, biased ? b_ih : nullptr}; }
  Panels<Real, 3> states(Range own, bool biased) const noexcept { return {w_hh, own, H, biased ? b_hh : nullptr}; }
  Panels<Real, 2> first_gates(Range own) const noexcept { return {w_hh, own, H, nullptr}; }
  Panels<Real, 1> candidates(Range own) const noexcept { return {w_hn, own, H, nullptr}; }
};

// Transposes kLanes rows in registers: log2(kLanes) rounds of interleaving row i with row i + kLanes / 2.
template <class Real>
FASTGRU_INLINE void transpose(Vec<Real> (&rows)[kLanes<Real>]) noexcept {
  constexpr int64_t W = kLanes<Real>;
  constexpr auto low = [](int64_t i) { return i / 2 + i % 2 * W; };
  constexpr auto high = [](int64_t i) { return i / 2 + i % 2 * W + W / 2; };
#pragma GCC unroll 4
  for (int64_t round = 1; round < W; round *= 2) {
    Vec<Real> next[W];
#pragma GCC unroll 16
    for (int64_t i = 0; i < W / 2; ++i) {
      next[2 * i] = shuffle<Real>(rows[i], rows[i + W / 2], low);
      next[2 * i + 1] = shuffle<Real>(rows[i], rows[i + W / 2], high);
    }
#pragma GCC unroll 16
    for (int64_t i = 0; i < W; ++i) rows[i] = next[i];
  }
}

// kPiece columns of kLanes rows, row(u) being where those of row u begin: a vector each, made of pieces of the rows,
// transposed piece by piece. `n`: of the columns, those that there are, if kPart.
template <class Real, bool kPart, class F>
FASTGRU_INLINE void load_columns(F row, int64_t n, Vec<Real> (&columns)[kPiece<Real>]) noexcept {
  constexpr int64_t P = kPiece<Real>, W = kLanes<Real>;
  Vec<Real> rows[P];
#pragma GCC unroll 4
  for (int64_t i = 0; i < P; ++i) {
    rows[i] = join_pieces<Real>([&](int64_t piece) __attribute__((always_inline)) -> Piece<Real> {
      const Real* from = row(piece * P + i);
      if constexpr (kPart) return load_piece(from, n);
      Piece<Real> whole;
      __builtin_memcpy(&whole, from, sizeof whole);
      return whole;
    });
  }
  constexpr auto low = [](int64_t i) { return i / P * P + i % P / 2 + i % 2 * W; };
  constexpr auto high = [](int64_t i) { return i / P * P + i % P / 2 + i % 2 * W + P / 2; };
  constexpr auto first = [](int64_t i) { return i / P * P + i % 2 + i % P / 2 * W; };
  constexpr auto second = [](int64_t i) { return i / P * P + i % 2 + i % P / 2 * W + 2; };
  if constexpr (P == 2) {
    columns[0] = shuffle<Real>(rows[0], rows[1], low);
    columns[1] = shuffle<Real>(rows[0], rows[1], high);
  } else {
    const Vec<Real> a = shuffle<Real>(rows[0], rows[1], low), b = shuffle<Real>(rows[2], rows[3], low);
    const Vec<Real> c = shuffle<Real>(rows[0], rows[1], high), d = shuffle<Real>(rows[2], rows[3], high);
    columns[0] = shuffle<Real>(a, b, first);
    columns[1] = shuffle<Real>(a, b, second);
    columns[2] = shuffle<Real>(c, d, first);
    columns[3] = shuffle<Real>(c, d, second);
  }
}

// Lane i of the result: the sum of all lanes of rows[i], if `size` is kLanes. Halves are added to halves, those of two
// rows side by side.
template <class Real, int64_t size = kLanes<Real>>
FASTGRU_INLINE Vec<Real> sum_lanes(Vec<Real> (&rows)[kLanes<Real>]) noexcept {
  if constexpr (size == 1) {
    return rows[0];
  } else {
    constexpr int64_t W = kLanes<Real>, half = size / 2;
    constexpr auto low = [](int64_t i) { return i / size * size + i % half + (i % size >= half ? W : 0); };
    constexpr auto high = [](int64_t i) { return i / size * size + i % half + (i % size >= half ? W : 0) + half; };
#pragma GCC unroll 8
    for (int64_t i = 0; i < half; ++i) {
      rows[i] = shuffle<Real>(rows[i], rows[i + half], low) + shuffle<Real>(rows[i], rows[i + half], high);
    }
    return sum_lanes<Real, half>(rows);
  }
}

// One gate of one block: kLanes rows of w [3H, K] become to[k][lane], `pitch` apart.
template <class Real>
void pack_gate(const Real* w, int64_t K, int64_t units, int64_t pitch, Real* to) noexcept {
  constexpr int64_t W = kLanes<Real>;
  for (int64_t k = 0; k < K; k += W) {
    Vec<Real> rows[W];
    const int64_t left = K - k;
#pragma GCC unroll 16
    for (int64_t u = 0; u < W; ++u) {
      rows[u] = u >= units ? Vec<Real>{} : left >= W ? load(w + u * K + k) : load_lanes(w + u * K + k, left);
    }
    transpose<Real>(rows);
    const int64_t n = min_of(left, W);
    for (int64_t i = 0; i < n; ++i) store(to + (k + i) * pitch, rows[i]);
  }
}

// One gate of one block of w_hh [3H, H].
template <class Real>
void pack_recurrent(const Real* w, Form form, int64_t H, int64_t j, int64_t gate, const Packed<Real>& to) noexcept {
  constexpr int64_t W = kLanes<Real>;
  const int64_t units = min_of(W, H - j * W);
  w += (gate * H + j * W) * H;
  if (form != Form::before) return pack_gate(w, H, units, 3 * W, const_cast<Real*>(to.w_hh) + j * 3 * W * H + gate * W);
  if (gate < 2) return pack_gate(w, H, units, 2 * W, const_cast<Real*>(to.w_hh) + j * 2 * W * H + gate * W);
  pack_gate(w, H, units, W, const_cast<Real*>(to.w_hn) + j * W * H);
}

template <class Real>
void Packed<Real>::pack_blocks(const Parameters<const Real>& from, Form form, int64_t I, int64_t H, Range own,
                               Real* packed) noexcept {
  constexpr int64_t W = kLanes<Real>;
  const Packed<Real> at(packed, I, H);
  for (int64_t j = own.begin; j < own.end; ++j) {
    const int64_t units = min_of(W, H - j * W);
    for (int64_t gate = 0; gate < 3; ++gate) {
      const int64_t row = gate * H + j * W, column = j * kRow + gate * W;
      pack_gate(from.w_ih + row * I, I, units, kRow, const_cast<Real*>(at.w_ih) + j * kRow * I + gate * W);
      pack_recurrent(from.w_hh, form, H, j, gate, at);
      const Vec<Real> b_ih = from.b_ih ? load_lanes(from.b_ih + row, units) : Vec<Real>{};
      const Vec<Real> b_hh = from.b_hh ? load_lanes(from.b_hh + row, units) : Vec<Real>{};
      const bool apart = gate == 2 && form != Form::before;
      store(const_cast<Real*>(at.b_ih) + column, apart ? b_ih : b_ih + b_hh);
      store(const_cast<Real*>(at.b_hh) + column, apart ? b_hh : Vec<Real>{});
      if (form != Form::normed) continue;
      store(const_cast<Real*>(at.g_ih) + column, load_lanes(from.g_ih + row, units));
      store(const_cast<Real*>(at.g_hh) + column, load_lanes(from.g_hh + row, units));
    }
  }
}

// All of a direction.
template <class Real>
void pack(const Parameters<const Real>& from, Form form, int64_t I, int64_t H, Real* packed) noexcept {
  Packed<Real>::pack_blocks(from, form, I, H, {0, Packed<Real>::blocks(H)}, packed);
}

}  // namespace
}  // namespace fastgru
