// What the threads of a group share in the backward pass, and what each has for itself.
#pragma once

#include "gate_gradients.inl"
#include "outer_product.inl"
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
  Real* own;                      // [units][chunk], of this thread alone
  int64_t elements;

  BackwardWorkspace(const BackwardArgs<Real>& a, const Group& group, Real* memory) noexcept
      : batch(min_of(a.steps.B, kBatchBlock * group.size)),
        chunk(max_of(a.form == Form::normed ? kChunkRows / 2 : kChunkRows, batch)),
        ldc(round_up(a.H, W2) + W),
        ldg(round_up(dgates_width(a.form) * a.H, W) + W),
        x_panels(divide_up(a.I, W2)),
        h_panels(divide_up(a.H, W2)) {
    const int64_t x = chunk * x_panels * W2, h = chunk * h_panels * W2;
    units = (x + h) * static_cast<int64_t>(sizeof(Real)) < kWeightBytesPerCore ? kOuterRows : kOuterUnits;
    Pieces<Real> pieces(memory);
    carry = pieces.take(batch * ldc);
    for (ChunkBuffers<Real>& buffer : buffers) {
      buffer.dgates = pieces.take(chunk * ldg);
      buffer.x = pieces.take(x);
      buffer.h = pieces.take(h);
      buffer.reset = pieces.take(a.form == Form::before ? h : 0);
    }
    w_hh = pieces.take(h_panels * 3 * a.H * W2);
    w_ih = pieces.take(a.dx.data ? x_panels * 3 * a.H * W2 : 0);
    sums = pieces.take(dgates_width(a.form) * round_up(a.H, W));
    initial = pieces.take(a.dinitial ? group.size * h_panels * W2 : 0);
    own = pieces.take_own(chunk * units, group);
    elements = pieces.taken();
  }
};

}  // namespace
}  // namespace fastgru
