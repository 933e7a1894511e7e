// A direction's weights of few bits, packed; as Packed of packing.inl.
#pragma once

#include "gru.h"
#include "low_panels.inl"
#include "packing.inl"

namespace fastgru {
namespace {

// In blocks of kLanes units, gates side by side:
//   w_ih [blocks][groups of I][3][kBytes]     w_hh [blocks][groups of H][3][kBytes], units beyond H and terms beyond zero
//   of int8, of each of the two: scale [blocks][3][kLanes], then offset, which sums start from
//   b_ih b_hh g_ih g_hh [blocks][3][kLanes] as Packed has them
// Form::before has w_hh [blocks][groups][2][kBytes], then w_hn [blocks][groups][kBytes], and likewise its scales.
template <class Format>
class LowPacked {
 public:
  static constexpr int64_t W = kLanes<float>, kRow = 3 * W;
  static constexpr int kRows = Format::kRows;
  static constexpr bool kTrained = Format::kTrained;

  static int64_t blocks(int64_t H) noexcept { return divide_up(H, W); }
  static int64_t groups(int64_t K) noexcept { return divide_up(K, Format::kTerms); }
  static int64_t elements(int64_t I, int64_t H) noexcept {
    const int64_t vectors = Format::kScaled ? 8 : 4;
    return blocks(H) * (3 * (groups(I) + groups(H)) * Format::kBytes / 4 + vectors * kRow);
  }

  LowPacked(const float* at, int64_t I, int64_t H) noexcept
      : I_(I),
        H_(H),
        w_ih_(reinterpret_cast<const uint8_t*>(at)),
        w_hh_(w_ih_ + blocks(H) * 3 * groups(I) * Format::kBytes),
        b_ih(reinterpret_cast<const float*>(w_hh_ + blocks(H) * 3 * groups(H) * Format::kBytes)),
        b_hh(b_ih + blocks(H) * kRow),
        g_ih(b_hh + blocks(H) * kRow),
        g_hh(g_ih + blocks(H) * kRow),
        scales_(g_hh + blocks(H) * kRow) {}

  // Numbers of memory that encode needs for so many rows of K.
  static int64_t encoded_elements(int64_t rows, int64_t K) noexcept {
    if constexpr (Format::kScaled) return round_up(rows, 16) + divide_up(rows * pitch(K) * kWordBytes, 4);
    if constexpr (is_rounded()) return divide_up(rows * pitch(K) * kWordBytes, 4);
    return groups(K) * Format::kTerms * kRow;
  }

  // Rows of K numbers, zero beyond them to a whole vector, as they are to be multiplied.
  static auto encode(const Rows<float>& rows, int64_t K, float* memory) noexcept {
    if constexpr (Format::kScaled) {
      auto* words = reinterpret_cast<typename Format::Word*>(memory + round_up(rows.range.end, 16));
      for (int64_t b = rows.range.begin; b < rows.range.end; ++b) {
        memory[b] = Format::encode(rows.data + b * rows.pitch, K, words + b * pitch(K));
      }
      return EncodedRows<Format>{words, pitch(K), memory, rows.range};
    } else if constexpr (is_rounded()) {
      auto* words = reinterpret_cast<typename Format::Word*>(memory);
      for (int64_t b = rows.range.begin; b < rows.range.end; ++b) {
        Format::encode(rows.data + b * rows.pitch, K, words + b * pitch(K));
      }
      return EncodedRows<Format>{words, pitch(K), nullptr, rows.range};
    } else {
      return RowsAndPanel{rows, memory};
    }
  }

  LowPanels<Format, 3> inputs(Range own, bool biased) const noexcept {
    return {{w_ih_, groups(I_), groups(I_) * 3 * Format::kBytes, biased ? b_ih : nullptr, scale(0), offset(0)}, own};
  }
  LowPanels<Format, 3> states(Range own, bool biased) const noexcept {
    return {{w_hh_, groups(H_), groups(H_) * 3 * Format::kBytes, biased ? b_hh : nullptr, scale(1), offset(1)}, own};
  }
  LowPanels<Format, 2> first_gates(Range own) const noexcept {
    return {{w_hh_, groups(H_), groups(H_) * 2 * Format::kBytes, nullptr, scale(1), offset(1)}, own};
  }
  LowPanels<Format, 1> candidates(Range own) const noexcept {
    const int64_t whole = blocks(H_) * 2, after = whole * W;
    const uint8_t* w_hn = w_hh_ + whole * groups(H_) * Format::kBytes;
    return {{w_hn, groups(H_), groups(H_) * Format::kBytes, nullptr, scale(1) + after, offset(1) + after}, own};
  }

  // All of a direction.
  static void pack(const LowParameters& from, Form form, int64_t I, int64_t H, float* packed) noexcept {
    const LowPacked to(packed, I, H);
    const Range all{0, blocks(H)};
    to.for_gates(form, all, [&](bool of_x, int64_t row, int64_t units, const auto& panels, int64_t j, int64_t gate) {
      const auto* w = static_cast<const Element*>(of_x ? from.w_ih : from.w_hh);
      pack_gate({w, of_x ? from.s_ih : from.s_hh, of_x ? I : H, row, units}, panels, j, gate);
    });
    to.pack_vectors(from, form, all);
  }
  // Unit blocks `own` of a direction whose weights are float: of Bf16, where it rounds.
  static void pack_blocks(const Parameters<const float>& from, Form form, int64_t I, int64_t H, Range own,
                          float* packed) noexcept;

 private:
  using Element = typename Format::Element;
  static constexpr int64_t kWordBytes = sizeof(typename Format::Word);

  static constexpr bool is_rounded() noexcept {
    if constexpr (Format::kScaled) {
      return false;
    } else {
      return Format::kRounds;
    }
  }

  // Words from one row to the next: not a power of two, whose rows would fall into few sets of the cache.
  static int64_t pitch(int64_t K) noexcept { return round_up(Format::words_of(K), 16) + 16; }

  const float* scale(int64_t side) const noexcept { return scales_ + side * 2 * blocks(H_) * kRow; }
  const int32_t* offset(int64_t side) const noexcept {
    return reinterpret_cast<const int32_t*>(scale(side) + blocks(H_) * kRow);
  }

  // `units` rows of a matrix [3H, K], from `row` on, and the scales of all.
  struct Gate {
    const Element* w;
    const float* scale;
    int64_t K, row, units;
  };

  template <int kVectors>
  static void pack_gate(const Gate& from, const LowPanels<Format, kVectors>& to, int64_t j, int64_t gate) noexcept {
    const LowPanel<Format>& panel = to.first;
    auto* data = const_cast<uint8_t*>(panel.data) + j * panel.pitch;
    for (int64_t u = 0; u < W; ++u) {
      const bool exists = u < from.units;
      const Element* row = from.w + (from.row + u) * from.K;
      int32_t sum = 0;
      for (int64_t k = 0; k < panel.groups * Format::kTerms; ++k) {
        const Element value = exists && k < from.K ? row[k] : Element{};
        const int64_t group = k / Format::kTerms, term = k % Format::kTerms;
        uint8_t* at = data + (group * kVectors + gate) * Format::kBytes;
        __builtin_memcpy(at + (u * Format::kTerms + term) * static_cast<int64_t>(sizeof value), &value, sizeof value);
        sum += static_cast<int32_t>(value);
      }
      if constexpr (Format::kScaled) {
        const int64_t at = (j * kVectors + gate) * W + u;
        const_cast<float*>(panel.scale)[at] = exists ? from.scale[from.row + u] : 0.0f;
        const_cast<int32_t*>(panel.offset)[at] = -Format::kOffset * sum;
      }
    }
  }

  // Calls f(whether it is of W_ih, first row, units, panels, block, gate in the panels) for each gate of blocks `own`.
  template <class F>
  void for_gates(Form form, Range own, F f) const noexcept {
    for (int64_t j = own.begin; j < own.end; ++j) {
      const int64_t units = min_of(W, H_ - j * W);
      for (int64_t gate = 0; gate < 3; ++gate) {
        const int64_t row = gate * H_ + j * W;
        f(true, row, units, inputs({0, 1}, false), j, gate);
        if (form != Form::before) {
          f(false, row, units, states({0, 1}, false), j, gate);
        } else if (gate < 2) {
          f(false, row, units, first_gates({0, 1}), j, gate);
        } else {
          f(false, row, units, candidates({0, 1}), j, 0);
        }
      }
    }
  }

  // Of blocks `own` the biases and gains of Parameters.
  template <class From>
  void pack_vectors(const From& from, Form form, Range own) const noexcept {
    auto *of_x = const_cast<float*>(b_ih), *of_h = const_cast<float*>(b_hh);
    pack_vector(from.b_ih, own, of_x);
    pack_vector(from.b_hh, own, of_h);
    for (int64_t i = own.begin * 3; i < own.end * 3; ++i) {
      if (form != Form::before && i % 3 == 2) continue;  // b_hn is multiplied by r
      store(of_x + i * W, load(of_x + i * W) + load(of_h + i * W));
      store(of_h + i * W, Vec<float>{});
    }
    if (form != Form::normed) return;
    pack_vector(from.g_ih, own, const_cast<float*>(g_ih));
    pack_vector(from.g_hh, own, const_cast<float*>(g_hh));
  }

  // Of [3H] to [blocks][3][kLanes], null for zero.
  void pack_vector(const float* from, Range own, float* to) const noexcept {
    for (int64_t j = own.begin; j < own.end; ++j) {
      for (int64_t gate = 0; gate < 3; ++gate) {
        const int64_t units = min_of(W, H_ - j * W);
        store(to + j * kRow + gate * W, from ? load_lanes(from + gate * H_ + j * W, units) : Vec<float>{});
      }
    }
  }

  const int64_t I_, H_;
  const uint8_t *w_ih_, *w_hh_;

 public:
  const float *b_ih, *b_hh, *g_ih, *g_hh;

 private:
  const float* scales_;
};

}  // namespace
}  // namespace fastgru
