// The contract of the GRU kernels: one layer, one or two directions, float or double.
//
//     r  = sigmoid(W_ir x + b_ir + W_hr h + b_hr)        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
//     q  = W_hn h + b_hn                                 n = tanh(W_in x + b_in + r * q)
//     h' = (1 - z) * n + z * h
//
// Form says what of it is otherwise.
//
// T steps, B sequences, I inputs, H units, D directions (1 or 2; the second, or the only one where `reverse` is true,
// runs from the last step to the first), all >= 1. Everything points into the caller's memory and is neither kept nor
// freed; no two pointers that are written overlap anything. Strides and sizes count elements, never bytes. The last
// dimension always has stride 1. The kernels neither allocate nor throw.
#pragma once

#include <cstdint>

namespace fastgru {

struct Team;

enum class Form : int32_t {
  after,   // as above: r multiplies W_hn h + b_hn
  before,  // q = W_hn (r * h) + b_hn, n = tanh(W_in x + b_in + q)
  normed   // after, with g * norm(W x) + b in place of W x + b, of x and of h each; norm(a) = (a - mean) /
           // sqrt(variance + kNormEpsilon) over all 3H of a
};

constexpr double kNormEpsilon = 1e-5;

// Whether kernels for training and for double are built; without them `saved` is null in every call, weights are
// trusted, and what Kernels has for them is null.
#ifdef FASTGRU_INFERENCE_ONLY
constexpr bool kTrains = false;
#else
constexpr bool kTrains = true;
#endif

// Numbers that the forward pass saves of one step of one sequence. after: r, z, n, q. before: r, z, n. normed: norm of
// W_ih x and of W_hh h, rows in the order r, z, n, then 1 / sqrt(variance + kNormEpsilon) of each.
[[gnu::always_inline]] constexpr int64_t saved_pitch(Form form, int64_t H) noexcept {
  return form == Form::after ? 4 * H : form == Form::before ? 3 * H : 6 * H + 2;
}

// Numbers that a single step leaves of one sequence for its weights' gradients: step_records.inl says what they are.
[[gnu::always_inline]] constexpr int64_t record_pitch(Form form, int64_t I, int64_t H) noexcept {
  return I + (form == Form::after ? 5 : form == Form::before ? 5 : 17) * H;
}

// Sequences up to which a single step in training is computed from the weights as they lie.
constexpr int64_t kTrainedStepRows = 512;

// Packed weights kept from call to call, of all layers together: bytes at most.
constexpr int64_t kKeptPackedBytes = int64_t{256} << 20;

// Sequences that end at different steps. Sequence b has steps 0 .. length(b) - 1, and lengths do not grow
// with b: step t has the sequences b < rows[t].
struct Steps {
  int64_t T, B;
  const int64_t* rows;   // [T], not increasing, or null: B at every step
  const int64_t* first;  // [T], rows[0] + .. + rows[t - 1], null where rows is
  const int64_t* order;  // [B] where sequence b lies in h0, h_n and their gradients, or null: b
  const int64_t* time;   // [T] where step t lies in a series, in its time strides, or null: t
  const int64_t* batch;  // [B] where sequence b lies in a series, in its batch strides, or null: b.
                         // Padded: null and order. torch's PackedSequence: first and null, both strides the same.
                         // Sequences one after the other: null and where each begins, both strides the same

  // Rows of `saved`, of each direction. Inlined, so that no instruction set's copy can serve another.
  [[gnu::always_inline]] int64_t saved_rows() const noexcept { return first ? first[T - 1] + rows[T - 1] : T * B; }
};

// A [time, batch, feature] tensor: (t, b, i) is data[steps.time(t) * time + steps.batch(b) * batch + i].
template <class Real>
struct Series {
  Real* data;
  int64_t time, batch;
};

// One direction's parameters, or their gradients. Rows in torch's order r, z, n.
template <class Real>
struct Parameters {
  Real* w_ih;  // [3H, I]
  Real* w_hh;  // [3H, H]
  Real* b_ih;  // [3H] or null: zero (gradients: not wanted)
  Real* b_hh;  // [3H] or null
  Real* g_ih;  // [3H], of Form::normed alone
  Real* g_hh;  // [3H]
};

// Where a sequence starts anew. Between steps t - 1 and t, in both directions, kCut at (t, b) stops the gradient alone;
// any other bit stops the state too: the forward direction's step t, and the reverse direction's step t - 1, find
// `initial` instead of the state before them.
template <class Real>
struct Resets {
  static constexpr uint8_t kCut = 0x80;
  Series<const uint8_t> at;  // [T, B, 1]; data null: nowhere
  const Real* initial;       // [D, H] or null: zero
};

// What regularises the state.
template <class Real>
struct Noise {
  const Real* recurrent;       // [D, B, H] or null: factors of the h that enters W_hh, not of the h in z * h
  Series<const Real> zoneout;  // [T, B, D * H], m in h' = h + m * (h~ - h) with h~ what the equations give; or data
                               // null: m is `keep` everywhere
  Real keep;                   // 1: no zoneout
};

// What became of a direction's packed weights in a call.
struct Packing {
  bool stale;            // `packed` was not what the parameters are, and was not used
  bool complete;         // pack_into holds the parameters, which were the same before and after they were packed
  uint64_t fingerprint;  // theirs, if complete
};

template <class Real>
struct ForwardArgs {
  int64_t I, H, D;
  Form form;
  bool reverse;  // false where D is 2
  Steps steps;
  Parameters<const Real> parameters[2];
  // Packed weights to use, as an earlier call left them in pack_into, or null: packed anew, into pack_into or, where
  // that is null too, into scratch. Each is used only if `fingerprint` is still that of the parameters; if it is not,
  // the weights are packed anew in scratch.
  const Real* packed[2];
  uint64_t fingerprint[2];
  Real* pack_into[2];
  Packing* packing;      // [D], written for each direction that has packed or pack_into; null if none has
  bool trusted;  // true: each of `packed` is there and is what the parameters are, which are not looked at and may be
                 // null; fingerprint and packing mean nothing
  Series<const Real> x;  // [T, B, I]
  const Real* h0;        // [D, B, H] or null: zero
  Resets<Real> resets;
  Noise<Real> noise;
  bool batch_invariant;  // true: what a single step (is_single_step of step.inl) writes are the bits that a call of
                         // many steps writes: a sequence's own for any B, threads and Steps; false: the fastest
  Series<Real> y;  // [T, B, D * H], written at every step a sequence has, otherwise untouched; data may be null for
                   // what is_single_step of step.inl says
  Real* h_n;       // [D, B, H], the state after each sequence's own last step (h0 if it has none)
  Real* saved;     // [D, N, saved_pitch], what backward needs, or null: not wanted. (t, b) is row first[t] + b
                   // where first is given (N is then the sum of rows), else t * B + b (N = T * B)
};

template <class Real>
struct BackwardArgs {
  int64_t I, H, D;
  Form form;
  bool reverse;
  Steps steps;
  Parameters<const Real> parameters[2];
  Series<const Real> x, y;
  const Real* h0;  // [D, B, H] or null: it was zero
  Resets<Real> resets;
  Noise<Real> noise;
  const Real* saved;              // as the forward pass left it; only read, so backward may run again
  Series<const Real> dy;          // data null: zero
  const Real* dh_n;               // [D, B, H] or null: zero
  Series<Real> dx;                // data null: not wanted; written where y was, otherwise untouched
  Real* dh0;                      // [D, B, H] or null: not wanted
  Real* dinitial;                 // [D, H] or null: not wanted
  Parameters<Real> gradients[2];  // each pointer null: not wanted. Overwritten, not added to
  Real* records[2];  // of single steps alone (is_single_step of step_backward.inl): [B, record_pitch], what RecordArgs
                     // makes the gradients of, which are then not written here; null: they are
};

// The gradients of one direction's weights, from what single steps left.
template <class Real>
struct RecordArgs {
  int64_t I, H, rows;
  Form form;
  const Real* records;         // [rows, record_pitch]
  Parameters<Real> gradients;  // each pointer null: not wanted
  bool adds;                   // to what is there
};

// The second derivatives of a single step of Form::after without noise: the gradients of the gradients that backward
// gives of it. v: the cotangents of those gradients, null for zero.
template <class Real>
struct DoubleBackwardArgs {
  int64_t I, H, D, B;
  Parameters<const Real> parameters[2];  // of which the biases are not read
  const Real* x;                         // [B, I]
  const Real* h0;                        // [D, B, H] or null: zero
  const Real* saved;                     // [D, B, saved_pitch], as the forward pass left it
  const Real* dy;                        // [B, D * H] or null: zero
  const Real* dh_n;                      // [D, B, H] or null: zero
  const Real* v_x;                       // [B, I]
  const Real* v_h0;                      // [D, B, H]
  Parameters<const Real> v[2];           // of the parameters' gradients
  Real* ddy;                             // [B, D * H]; of this and of what follows null: not wanted
  Real* ddh_n;                           // [D, B, H]
  Real* dx;                              // [B, I]
  Real* dh0;                             // [D, B, H]
  Parameters<Real> gradients[2];
};

// The forward pass, of any weights.
template <class Real>
struct ForwardKernels {
  // How many threads the work is worth, at most `available`.
  int32_t (*forward_threads)(const ForwardArgs<Real>& args, int32_t available) noexcept;
  int64_t (*forward_scratch)(const ForwardArgs<Real>& args, int32_t threads) noexcept;
  void (*forward)(const ForwardArgs<Real>& args, Real* scratch, const Team& team) noexcept;
};

// One instruction set's kernels. `threads` is the size of the team that will run the call; every member
// of the team calls forward or backward with the same arguments, scratch among them. Scratch is owned by
// the caller, aligned to 64 bytes, of the size asked for, and may hold anything.
template <class Real>
struct Kernels : ForwardKernels<Real> {
  int64_t (*packed_elements)(int64_t I, int64_t H) noexcept;
  // Writes a direction's packed weights, of packed_elements, aligned to 64 bytes.
  void (*pack)(const Parameters<const Real>& parameters, Form form, int64_t I, int64_t H, Real* to) noexcept;
  // A number that a change of part `part` of `parts` of the parameters changes; those of all parts add up to the one of
  // ForwardArgs. A change goes unseen with a chance of about 2^-32.
  uint64_t (*fingerprint)(const Parameters<const Real>& parameters, int64_t I, int64_t H, int64_t part,
                          int64_t parts) noexcept;
  // Whether keeping packed weights from call to call pays for calls like this one.
  bool (*reuses_packed)(const ForwardArgs<Real>& args) noexcept;
  int32_t (*backward_threads)(const BackwardArgs<Real>& args, int32_t available) noexcept;
  int64_t (*backward_scratch)(const BackwardArgs<Real>& args, int32_t threads) noexcept;
  void (*backward)(const BackwardArgs<Real>& args, Real* scratch, const Team& team) noexcept;
  // Whether backward takes `records` for calls like this one.
  bool (*leaves_records)(const BackwardArgs<Real>& args) noexcept;
  int32_t (*records_threads)(const RecordArgs<Real>& args, int32_t available) noexcept;
  int64_t (*records_scratch)(const RecordArgs<Real>& args, int32_t threads) noexcept;
  void (*add_records)(const RecordArgs<Real>& args, Real* scratch, const Team& team) noexcept;
  int32_t (*double_backward_threads)(const DoubleBackwardArgs<Real>& args, int32_t available) noexcept;
  int64_t (*double_backward_scratch)(const DoubleBackwardArgs<Real>& args, int32_t threads) noexcept;
  void (*double_backward)(const DoubleBackwardArgs<Real>& args, Real* scratch, const Team& team) noexcept;
  // What the product's innermost tile can do at best: runs it `repeats` times with K terms a sum, on kProbeWidth
  // elements of memory for each k and as many again, and returns the floating-point operations of that.
  int64_t (*probe)(int64_t repeats, int64_t K, Real* memory) noexcept;
};

constexpr int64_t kProbeWidth = 448;

// Weights of few bits, for inference in float: state, gates, gains and biases are float.
//
// int8: a weight is values * scale of its row; a row of x, or h where it enters W_hh, becomes whole numbers from -127 to
// 127: q[k] = round(x[k] * (127 / most)), halves to even, most = max(max |x[k]|, 1e-30), and what is to be multiplied is
// q * (most / 127). Sums of products of whole numbers are exact: each row of W x is
//
//     float(sum_k values[k] * q[k]) * scale * (most / 127) + bias
//
// A row that holds a number that is not finite has products of NaN. bf16: weights are bfloat16, and so is x, rounded
// to the nearest, where the instruction set multiplies such numbers; otherwise it is left as it is. Sums are float.
enum class Precision : int32_t { full, int8, bf16 };

// Terms of a sum of int8 products at most: int32 holds it.
constexpr int64_t kMostInt8Terms = int64_t{1} << 17;

// One direction's; rows in torch's order r, z, n.
struct LowParameters {
  const void *w_ih, *w_hh;    // [3H, I], [3H, H], int8_t or bfloat16
  const float *s_ih, *s_hh;   // [3H], of int8 alone
  const float *b_ih, *b_hh;   // [3H] or null
  const float *g_ih, *g_hh;   // [3H], of Form::normed alone
};

// One instruction set's kernels for weights of one precision. Their calls are `trusted`, with `packed` as pack writes it.
struct LowKernels : ForwardKernels<float> {
  int64_t (*packed_elements)(int64_t I, int64_t H) noexcept;
  void (*pack)(const LowParameters& parameters, Form form, int64_t I, int64_t H, float* to) noexcept;
  // W_ih x as the gates see it, of packed weights without biases: x [B, I], to [B, 3H]; scratch as products_scratch says.
  void (*products)(const float* packed, int64_t I, int64_t H, const float* x, int64_t B, float* scratch,
                   float* to) noexcept;
  int64_t (*products_scratch)(int64_t I, int64_t H, int64_t B) noexcept;
};


struct LowKernelSet {
  LowKernels int8, bf16;
  // Kernels of float that multiply bfloat16: x, h, weights and the gates' gradients are rounded where they are
  // multiplied, except in single steps; sums, gates and states are float. Null where there is no instruction for it.
  const Kernels<float>& (*rounding)() noexcept;
};

struct KernelSet {
  Kernels<float> f32;
  Kernels<double> f64;
};

// Each is there only where the build's architecture has it.
const KernelSet& kernels_generic() noexcept;
const KernelSet& kernels_avx2() noexcept;
const KernelSet& kernels_avx512() noexcept;
const KernelSet& kernels_neon() noexcept;
const LowKernelSet& low_kernels_generic() noexcept;
const LowKernelSet& low_kernels_avx2() noexcept;
const LowKernelSet& low_kernels_avx2_vnni() noexcept;
const LowKernelSet& low_kernels_avx512() noexcept;
const LowKernelSet& low_kernels_avx512_vnni() noexcept;
const LowKernelSet& low_kernels_avx512_bf16() noexcept;
const Kernels<float>& rounding_kernels_avx512_bf16() noexcept;
const LowKernelSet& low_kernels_neon() noexcept;
const LowKernelSet& low_kernels_neon_dotprod() noexcept;

}  // namespace fastgru
