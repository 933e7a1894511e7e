// What the threads of a group share in the backward pass, and what each has for itself.
#pragma once

#include "gate_gradients.inl"
#include "operands.inl"
#include "team.inl"

namespace fastgru {
namespace {

// Rows of a chunk. A tile of gate gradients (8 KiB) and a panel of x or h (32 KiB) then share L1.
constexpr int64_t kChunkRows = 256;
// Where one thread does the steps and the others the rest: less is left for them to do when the steps are over.
constexpr int64_t kPipelinedRows = 64;

// Of a chunk of steps. Panels are of 2 * kLanes columns.
template <class Real>
struct ChunkBuffers {
  Real* dgates;  // [chunk], ldg apart: gate_gradients.inl says what a row is
  Real *x, *h;   // panels [x_panels or h_panels][chunk]
  Real* reset;   // r * h as h, of Form::before alone
};

// As many rows of so many numbers as stay in L2 while all panels of a matrix go over them.
template <class Real>
int64_t rows_in_l2(int64_t numbers) noexcept {
  const int64_t bytes = numbers * static_cast<int64_t>(sizeof(Real));
  return round_up(max_of(kWeightBytesPerCore / bytes, 1), kBackwardRows);
}

// A group's part of scratch.
template <class Real>
struct BackwardWorkspace {
  static constexpr int64_t W = kLanes<Real>, W2 = 2 * W;
  int64_t batch, chunk;        // most sequences at once, most rows in a chunk
  int64_t ldc, ldg;            // pitch of carry and of dgates
  int64_t x_panels, h_panels;  // of 2 * kLanes columns
  int64_t units;               // whose gradients are packed at once

  Real* carry;                    // [batch], ldc apart: what goes on to h beside W_hh
  ChunkBuffers<Real> buffers[2];  // of a chunk and of the next one: one barrier a chunk is then enough
  Real *w_hh, *w_ih;              // panels [h_panels or x_panels][3H]
  Real* sums;                     // of GradientSums
  Real* initial;                  // of InitialGradient
  // Of this thread alone.
  Real* own;      // [units][chunk]
  Real* held;     // of Operands::row_at: of h's panels two, of h and r * h
  Real* encoded;  // rows of 3H numbers, as Operands::encode has them
  int64_t elements;

  template <class Operands>
  BackwardWorkspace(Operands, const BackwardArgs<Real>& a, const Group& group, Real* memory) noexcept
      : batch(min_of(a.steps.B, kBatchBlock * group.size)),
        chunk(round_up(max_of(a.form == Form::normed ? kChunkRows / 2 : kChunkRows, batch), Operands::kTerms)),
        ldc(round_up(a.H, W2) + W),
        ldg(round_up(dgates_width(a.form) * a.H, W) + W),
        x_panels(divide_up(a.I, W2)),
        h_panels(divide_up(a.H, W2)) {
    constexpr int64_t kTerms = Operands::kTerms;
    const int64_t groups = chunk / kTerms, x = groups * x_panels * W2, h = groups * h_panels * W2;
    const int64_t panel = divide_up(3 * a.H, kTerms) * W2;
    units = (x + h) * static_cast<int64_t>(sizeof(Real)) < kWeightBytesPerCore ? kOuterRows : kOuterUnits;
    Pieces<Real> pieces(memory);
    carry = pieces.take(batch * ldc);
    for (ChunkBuffers<Real>& buffer : buffers) {
      buffer.dgates = pieces.take(chunk * ldg);
      buffer.x = pieces.take(x);
      buffer.h = pieces.take(h);
      buffer.reset = pieces.take(a.form == Form::before ? h : 0);
    }
    w_hh = pieces.take(h_panels * panel);
    w_ih = pieces.take(a.dx.data ? x_panels * panel : 0);
    sums = pieces.take(dgates_width(a.form) * round_up(a.H, W));
    initial = pieces.take(a.dinitial ? group.size * h_panels * W2 : 0);
    own = pieces.take_own(groups * units, group);
    held = pieces.take_own(kTerms > 1 ? kTerms * max_of(x_panels, 2 * h_panels) * W2 : 0, group);
    const int64_t encoded_rows = max_of(batch, min_of(chunk, rows_in_l2<Real>(3 * a.H)));
    encoded = pieces.take_own(Operands::encoded_elements(encoded_rows, 3 * a.H), group);
    elements = pieces.taken();
  }
};

}  // namespace
}  // namespace fastgru
