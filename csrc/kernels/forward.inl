// The forward pass of one layer: the input projection of a few steps at a time, then those steps.
#pragma once

#include "fingerprint.inl"
#include "layer_norm.inl"

namespace fastgru {
namespace {

// Rows of x projected at once: enough to read W_ih seldom, few enough that the result stays in L2.
constexpr int64_t kProjectedRows = 256;

// A direction's weights as the kernels read them, in blocks of kLanes units, gates r z n side by side:
//   w_ih [blocks][I][3][kLanes]   b_ih [blocks][3][kLanes]: b_ih + b_hh for r and z, b_ih for n
//   w_hh [blocks][H][3][kLanes]   b_hh [blocks][3][kLanes]: b_hh for n, zero for r and z
// and, of Form::normed, the gains g_ih and g_hh as the biases. Form::before needs r and z before n:
//   w_hh [blocks][H][2][kLanes], then w_hn [blocks][H][kLanes]; b_ih holds both biases of all gates
// Units beyond H are zero.
template <class Real>
struct Packed {
  static constexpr int64_t kRow = 3 * kLanes<Real>;
  const Real *w_ih, *w_hh, *w_hn, *b_ih, *b_hh, *g_ih, *g_hh;

  static int64_t blocks(int64_t H) noexcept { return divide_up(H, kLanes<Real>); }
  static int64_t elements(int64_t I, int64_t H) noexcept { return blocks(H) * kRow * (I + H + 4); }

  Packed(const Real* at, int64_t I, int64_t H) noexcept
      : w_ih(at),
        w_hh(w_ih + blocks(H) * kRow * I),
        w_hn(w_hh + blocks(H) * 2 * kLanes<Real> * H),
        b_ih(w_hh + blocks(H) * kRow * H),
        b_hh(b_ih + blocks(H) * kRow),
        g_ih(b_hh + blocks(H) * kRow),
        g_hh(g_ih + blocks(H) * kRow) {}
};

// Transposes kLanes rows in registers: log2(kLanes) rounds of interleaving row i with row i + kLanes / 2.
template <class Real>
FASTGRU_INLINE void transpose(Vec<Real> (&rows)[kLanes<Real>]) noexcept {
  constexpr int64_t W = kLanes<Real>;
  typename Simd<Real>::Int low, high;
  for (int64_t i = 0; i < W; ++i) {
    low[i] = static_cast<decltype(+low[0])>(i / 2 + i % 2 * W);
    high[i] = low[i] + static_cast<decltype(+low[0])>(W / 2);
  }
#pragma GCC unroll 4
  for (int64_t round = 1; round < W; round *= 2) {
    Vec<Real> next[W];
#pragma GCC unroll 16
    for (int64_t i = 0; i < W / 2; ++i) {
      next[2 * i] = __builtin_shuffle(rows[i], rows[i + W / 2], low);
      next[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + W / 2], high);
    }
#pragma GCC unroll 16
    for (int64_t i = 0; i < W; ++i) rows[i] = next[i];
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

// Unit blocks [blocks.begin, blocks.end) of a direction.
template <class Real>
void pack_blocks(const Parameters<const Real>& from, Form form, int64_t I, int64_t H, Range blocks,
                 Real* packed) noexcept {
  constexpr int64_t W = kLanes<Real>, kRow = 3 * W;
  const Packed<Real> at(packed, I, H);
  for (int64_t j = blocks.begin; j < blocks.end; ++j) {
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

// A tile of one unit block at one step, for the gate arithmetic.
template <class Real>
struct GateTile {
  int64_t rows;    // <= kForwardRows
  int64_t units;   // that exist in this block
  const Real* gx;  // [rows][3][kLanes]: W_ih x + biases
  const Real* gh;  // [rows][3][kLanes]: W_hh h, and b_hn
  const Real* h;   // [rows], ldh apart
  Real* h_next;    // [rows], ldh apart
  int64_t ldh;
  Real* y[kForwardRows];
  Real* saved;  // [rows], lds apart: r; z, n, q lie H further each
  int64_t lds, H;
  // With noise alone: h_next is then what W_hh sees, and the state itself replaces h.
  Real* carried;                        // h, to be written
  const Real* keep;                     // m where it is the same everywhere: kLanes numbers
  const Real* zoneout[kForwardRows];    // m, or null: keep
  const Real* recurrent[kForwardRows];  // or null: 1
  // Of Form::before alone, whose gx holds z once it is known.
  const Real* seen;  // what W_hr and W_hz saw; [rows], ldh apart
  Real* reset;       // r * seen, which W_hn sees; [rows], ldh apart
};

// The state after zoneout, stored as the state and as what W_hh sees of it.
template <class Real, bool kPart>
FASTGRU_INLINE Vec<Real> add_noise(const GateTile<Real>& tile, int64_t m, Vec<Real> before, Vec<Real> h) noexcept {
  const Vec<Real> keep = tile.zoneout[m] ? load_if<kPart>(tile.zoneout[m], tile.units) : load(tile.keep);
  h = before + keep * (h - before);
  store(tile.carried + m * tile.ldh, h);
  store(tile.h_next + m * tile.ldh, tile.recurrent[m] ? h * load_if<kPart>(tile.recurrent[m], tile.units) : h);
  return h;
}

template <class Real, bool kSave, bool kPart, bool kNoise = false>
[[gnu::noinline]] void apply_gates(const GateTile<Real>& tile) noexcept {
  constexpr int64_t W = kLanes<Real>;
  for (int64_t m = 0; m < tile.rows; ++m) {
    const Real *gx = tile.gx + m * 3 * W, *gh = tile.gh + m * 3 * W;
    const Vec<Real> r = sigmoid<Real>(load(gx) + load(gh));
    const Vec<Real> z = sigmoid<Real>(load(gx + W) + load(gh + W));
    const Vec<Real> q = load(gh + 2 * W);
    const Vec<Real> n = tanh<Real>(load(gx + 2 * W) + r * q);
    const Vec<Real> before = load(tile.h + m * tile.ldh);
    Vec<Real> h = n + z * (before - n);
    if constexpr (kNoise) {
      h = add_noise<Real, kPart>(tile, m, before, h);
    } else {
      store(tile.h_next + m * tile.ldh, h);
    }
    store_if<kPart>(tile.y[m], h, tile.units);
    if constexpr (kSave) {
      Real* saved = tile.saved + m * tile.lds;
      store_if<kPart>(saved, r, tile.units);
      store_if<kPart>(saved + tile.H, z, tile.units);
      store_if<kPart>(saved + 2 * tile.H, n, tile.units);
      store_if<kPart>(saved + 3 * tile.H, q, tile.units);
    }
  }
}

// Form::before, first half: gh [rows][2][kLanes] is W_hr h and W_hz h.
template <class Real, bool kPart>
[[gnu::noinline]] void apply_reset(const GateTile<Real>& tile, Real* gx, const Real* gh) noexcept {
  constexpr int64_t W = kLanes<Real>;
  for (int64_t m = 0; m < tile.rows; ++m, gx += 3 * W, gh += 2 * W) {
    const Vec<Real> r = sigmoid<Real>(load(gx) + load(gh)), z = sigmoid<Real>(load(gx + W) + load(gh + W));
    store(tile.reset + m * tile.ldh, r * load(tile.seen + m * tile.ldh));
    store(gx + W, z);
    if (!tile.saved) continue;
    store_if<kPart>(tile.saved + m * tile.lds, r, tile.units);
    store_if<kPart>(tile.saved + m * tile.lds + tile.H, z, tile.units);
  }
}

// Form::before, second half: gh [rows][kLanes] is W_hn (r * h).
template <class Real, bool kPart>
[[gnu::noinline]] void apply_candidate(const GateTile<Real>& tile) noexcept {
  constexpr int64_t W = kLanes<Real>;
  for (int64_t m = 0; m < tile.rows; ++m) {
    const Real* gx = tile.gx + m * 3 * W;
    const Vec<Real> n = tanh<Real>(load(gx + 2 * W) + load(tile.gh + m * W));
    const Vec<Real> before = load(tile.h + m * tile.ldh);
    const Vec<Real> h = add_noise<Real, kPart>(tile, m, before, n + load(gx + W) * (before - n));
    store_if<kPart>(tile.y[m], h, tile.units);
    if (tile.saved) store_if<kPart>(tile.saved + m * tile.lds + 2 * tile.H, n, tile.units);
  }
}

// What a group's threads share: h, twice, of the sequences they work on.
template <class Real>
constexpr int64_t state_pitch(int64_t H) noexcept {
  return round_up(H, kLanes<Real>) + kLanes<Real>;
}

// Carries a range of sequences and of unit blocks of one direction through all steps. Forms but the first have one
// worker each, which asks at run time whether to save, and whether there is noise.
template <class Real, Form kForm, bool kSave, bool kNoise>
class ForwardWorker {
 public:
  ForwardWorker(const ForwardArgs<Real>& args, const Packed<Real>& packed, const Group& group, int64_t direction,
                Share rows, Range blocks, bool waits) noexcept
      : a_(args),
        packed_(packed),
        group_(group),
        d_(direction),
        reverse_(direction == 1 || args.reverse),
        rows_(rows),
        blocks_(blocks),
        waits_(waits),
        ldh_(state_pitch<Real>(args.H)),
        ldx_(round_up(args.I, W) + W),
        projected_(max_of(kProjectedRows, rows.count)) {}

  static int64_t scratch(int64_t I, int64_t rows, int64_t blocks) noexcept {
    const int64_t recurrent = kForm == Form::normed ? rows * blocks * kRow : 0;
    return max_of(kProjectedRows, rows) * (blocks * kRow + round_up(I, W) + W) + recurrent;
  }

  // state: [states_of][rows][ldh], of the whole group if it splits units.
  void run(Real* state, Real* scratch) noexcept {
    h_ = state;
    h_next_ = state + rows_.count * ldh_;
    if constexpr (kNoise) carried_ = h_next_ + rows_.count * ldh_;
    if constexpr (kForm == Form::before) reset_ = carried_ + rows_.count * ldh_;
    gx_ = scratch;
    x_ = gx_ + projected_ * blocks_.size() * kRow;
    gh_ = x_ + projected_ * ldx_;
    start();
    if (waits_) wait_for(group_);
    for (int64_t s = 0; s < a_.steps.T;) {
      const int64_t end = project(s);
      for (int64_t row = 0; s < end; ++s) {
        step(s, row);
        row += active(time_of(s));
        if (waits_) wait_for(group_);
        finish(time_of(s));
        Real* swap = h_;
        h_ = h_next_;
        h_next_ = swap;
      }
    }
  }

 private:
  static constexpr int64_t W = kLanes<Real>, kRow = 3 * W;

  int64_t time_of(int64_t s) const noexcept { return reverse_ ? a_.steps.T - 1 - s : s; }

  // Of our sequences, those that have step t.
  int64_t active(int64_t t) const noexcept { return rows_.below(rows_at(a_.steps, t)); }

  // In both buffers: a sequence that begins late in the reverse direction is not copied from step to step.
  void start() noexcept {
    for (int64_t b = 0; b < rows_.count; ++b) {
      const int64_t slot = slot_of(a_.steps, rows_.at(b));
      for (int64_t j = blocks_.begin; j < blocks_.end; ++j) {
        Vec<Real> h{};
        if (a_.h0) h = lanes(a_.h0 + (d_ * a_.steps.B + slot) * a_.H + j * W, j);
        const Vec<Real> seen = enter(b, j, h);
        store(h_ + b * ldh_ + j * W, seen);
        store(h_next_ + b * ldh_ + j * W, seen);
      }
    }
    write_last(kNoise ? carried_ : h_, active(0), rows_.count);
    if (a_.resets.at.data && !reverse_) {
      for (int64_t j = blocks_.begin; j < blocks_.end; ++j) refresh(0, j, 0, active(0), h_);
    }
  }

  // Makes h the state of a sequence; returns what W_hh sees of it.
  Vec<Real> enter(int64_t b, int64_t block, Vec<Real> h) noexcept {
    if constexpr (!kNoise) return h;
    store(carried_ + b * ldh_ + block * W, h);
    const Real* recurrent = recurrent_of(a_.noise, a_.steps, d_, rows_.at(b), a_.H);
    return recurrent ? h * lanes(recurrent + block * W, block) : h;
  }

  // The initial state in a block of h where step t finds it.
  void refresh(int64_t t, int64_t block, int64_t b, int64_t m, Real* h) noexcept {
    for (int64_t row = b; row < b + m; ++row) {
      if (!is_fresh(a_.resets, parted(a_.resets, a_.steps, reverse_, t, rows_.at(row)))) continue;
      const Real* initial = a_.resets.initial;
      const Vec<Real> state = initial ? lanes(initial + d_ * a_.H + block * W, block) : Vec<Real>{};
      store(h + row * ldh_ + block * W, enter(row, block, state));
    }
  }

  Vec<Real> lanes(const Real* from, int64_t j) const noexcept {
    return (j + 1) * W <= a_.H ? load(from) : load_lanes(from, a_.H - j * W);
  }

  // gx of the steps from s on, as many as fit; returns the step after the last.
  int64_t project(int64_t s) noexcept {
    const int64_t begin = s;
    int64_t rows = 0;
    for (; s < a_.steps.T && rows + active(time_of(s)) <= projected_; ++s) rows = copy_x(time_of(s), rows);
    for (int64_t j = 0; j < blocks_.size(); ++j) {
      const int64_t block = blocks_.begin + j;
      for (int64_t row = 0, m; row < rows; row += m) {
        m = tile_rows(rows - row, kForwardRows);
        multiply<Real, kForwardRows, 3>(m, x_ + row * ldx_, ldx_, packed_.w_ih + block * kRow * a_.I, a_.I,
                                        kForm == Form::normed ? kZeros<Real> : packed_.b_ih + block * kRow, gx(j, row),
                                        quarter_of<Real, 3>(packed_.w_ih, blocks_, block + 1, a_.I, row, m));
      }
    }
    if constexpr (kForm == Form::normed) normalise_inputs(begin, s);
    return s;
  }

  // gx of steps [s, end).
  void normalise_inputs(int64_t s, int64_t end) noexcept {
    for (int64_t row = 0; s < end; ++s) {
      const int64_t t = time_of(s), n = active(t);
      for (int64_t b = 0; b < n; ++b, ++row) {
        Real* saved = a_.saved ? saved_of(t, rows_.at(b)) : nullptr;
        normalise(gx(0, row), projected_ * kRow, packed_.g_ih, packed_.b_ih, a_.H, saved,
                  saved ? saved + 6 * a_.H : nullptr);
      }
    }
  }

  // Rows of x one after the other: tiles then run over the ends of steps, and strides of a power of two,
  // which would fall into few sets of the cache, are gone.
  int64_t copy_x(int64_t t, int64_t row) noexcept {
    const int64_t n = active(t);
    for (int64_t b = 0; b < n; ++b) {
      const Real* from = row_of(a_.x, a_.steps, t, rows_.at(b));
      for (int64_t i = 0; i < a_.I; i += W) copy_padded(x_ + (row + b) * ldx_ + i, from + i, a_.I - i);
    }
    return row + n;
  }

  Real* gx(int64_t j, int64_t row) const noexcept { return gx_ + (j * projected_ + row) * kRow; }

  // row: of this step in gx. The first product is made even where h is zero: 0 * W_hh is NaN where W_hh is not finite.
  void step(int64_t s, int64_t row) noexcept {
    if constexpr (kForm == Form::before) return step_before(s, row);
    if constexpr (kForm == Form::normed) return step_normed(s, row);
    const int64_t t = time_of(s), n = active(t);
    alignas(64) Real gh[kForwardRows * kRow];
    for (int64_t j = 0; j < blocks_.size(); ++j) {
      const int64_t block = blocks_.begin + j;
      for (int64_t b = 0, m; b < n; b += m) {
        m = tile_rows(n - b, kForwardRows);
        multiply<Real, kForwardRows, 3>(m, h_ + b * ldh_, ldh_, packed_.w_hh + block * kRow * a_.H, a_.H,
                                        packed_.b_hh + block * kRow, gh,
                                        quarter_of<Real, 3>(packed_.w_hh, blocks_, block + 1, a_.H, b, m));
        gates(t, block, b, m, gx(j, row + b), gh);
        if (a_.resets.at.data && s + 1 < a_.steps.T) refresh(time_of(s + 1), block, b, m, h_next_);
      }
    }
  }

  void step_normed(int64_t s, int64_t row) noexcept {
    const int64_t t = time_of(s), n = active(t), pitch = rows_.count * kRow;
    for (int64_t j = 0; j < blocks_.size(); ++j) {
      const Real* panel = packed_.w_hh + j * kRow * a_.H;
      for (int64_t b = 0, m; b < n; b += m) {
        m = tile_rows(n - b, kForwardRows);
        multiply<Real, kForwardRows, 3>(m, h_ + b * ldh_, ldh_, panel, a_.H, kZeros<Real>, gh_ + j * pitch + b * kRow,
                                        quarter_of<Real, 3>(packed_.w_hh, blocks_, j + 1, a_.H, b, m));
      }
    }
    for (int64_t b = 0; b < n; ++b) {
      Real* saved = a_.saved ? saved_of(t, rows_.at(b)) : nullptr;
      normalise(gh_ + b * kRow, pitch, packed_.g_hh, packed_.b_hh, a_.H, saved ? saved + 3 * a_.H : nullptr,
                saved ? saved + 6 * a_.H + 1 : nullptr);
    }
    for (int64_t j = 0; j < blocks_.size(); ++j) {
      for (int64_t b = 0, m; b < n; b += m) {
        m = tile_rows(n - b, kForwardRows);
        gates(t, j, b, m, gx(j, row + b), gh_ + j * pitch + b * kRow);
        if (a_.resets.at.data && s + 1 < a_.steps.T) refresh(time_of(s + 1), j, b, m, h_next_);
      }
    }
  }

  // r of all units must be known before the product with W_hn.
  void step_before(int64_t s, int64_t row) noexcept {
    const int64_t t = time_of(s), n = active(t);
    alignas(64) Real gh[kForwardRows * 2 * W], keep[W];
    for (int64_t j = 0; j < blocks_.size(); ++j) {
      for (int64_t b = 0, m; b < n; b += m) {
        m = tile_rows(n - b, kForwardRows);
        multiply<Real, kForwardRows, 2>(m, h_ + b * ldh_, ldh_, packed_.w_hh + j * 2 * W * a_.H, a_.H, kZeros<Real>, gh,
                                        quarter_of<Real, 2>(packed_.w_hh, blocks_, j + 1, a_.H, b, m));
        const GateTile<Real> tile = gate_tile(t, j, b, m, gx(j, row + b), gh, keep);
        tile.units >= W ? apply_reset<Real, false>(tile, gx(j, row + b), gh)
                        : apply_reset<Real, true>(tile, gx(j, row + b), gh);
      }
    }
    for (int64_t j = 0; j < blocks_.size(); ++j) {
      for (int64_t b = 0, m; b < n; b += m) {
        m = tile_rows(n - b, kForwardRows);
        multiply<Real, kForwardRows, 1>(m, reset_ + b * ldh_, ldh_, packed_.w_hn + j * W * a_.H, a_.H, kZeros<Real>, gh,
                                        quarter_of<Real, 1>(packed_.w_hn, blocks_, j + 1, a_.H, b, m));
        const GateTile<Real> tile = gate_tile(t, j, b, m, gx(j, row + b), gh, keep);
        tile.units >= W ? apply_candidate<Real, false>(tile) : apply_candidate<Real, true>(tile);
        if (a_.resets.at.data && s + 1 < a_.steps.T) refresh(time_of(s + 1), j, b, m, h_next_);
      }
    }
  }

  void gates(int64_t t, int64_t block, int64_t b, int64_t m, const Real* gx, const Real* gh) noexcept {
    alignas(64) Real keep[W];
    const GateTile<Real> tile = gate_tile(t, block, b, m, gx, gh, keep);
    constexpr bool kSaveGates = kSave && kForm == Form::after;
    if (tile.units >= W) return apply_gates<Real, kSaveGates, false, kNoise>(tile);
    apply_gates<Real, kSaveGates, true, kNoise>(tile);
  }

  // keep: room for a vector.
  GateTile<Real> gate_tile(int64_t t, int64_t block, int64_t b, int64_t m, const Real* gx, const Real* gh,
                           Real* keep) noexcept {
    const int64_t unit = block * W;
    GateTile<Real> tile;
    tile.rows = m;
    tile.units = a_.H - unit;
    tile.gx = gx;
    tile.gh = gh;
    tile.h = h_ + b * ldh_ + unit;
    tile.h_next = h_next_ + b * ldh_ + unit;
    tile.ldh = ldh_;
    tile.H = a_.H;
    for (int64_t i = 0; i < m; ++i) {
      tile.y[i] = row_of(a_.y, a_.steps, t, rows_.at(b + i)) + d_ * a_.H + unit;
    }
    if constexpr (kSave) {
      tile.saved = kForm == Form::after || a_.saved ? saved_of(t, rows_.at(b)) + unit : nullptr;
      tile.lds = rows_.stride * saved_pitch(kForm, a_.H);
    }
    if constexpr (kNoise) set_noise(tile, t, unit, b, keep);
    if constexpr (kForm == Form::before) {
      tile.seen = h_ + b * ldh_ + unit;
      tile.reset = reset_ + b * ldh_ + unit;
    }
    return tile;
  }

  void set_noise(GateTile<Real>& tile, int64_t t, int64_t unit, int64_t b, Real* keep) noexcept {
    tile.carried = carried_ + b * ldh_ + unit;
    tile.h = tile.carried;
    store(keep, splat(a_.noise.keep));
    tile.keep = keep;
    for (int64_t i = 0; i < tile.rows; ++i) {
      const Real* recurrent = recurrent_of(a_.noise, a_.steps, d_, rows_.at(b + i), a_.H);
      tile.recurrent[i] = recurrent ? recurrent + unit : nullptr;
      tile.zoneout[i] =
          a_.noise.zoneout.data ? row_of(a_.noise.zoneout, a_.steps, t, rows_.at(b + i)) + d_ * a_.H + unit : nullptr;
    }
  }

  Real* saved_of(int64_t t, int64_t b) const noexcept {
    return a_.saved + (d_ * a_.steps.saved_rows() + saved_row(a_.steps, t) + b) * saved_pitch(kForm, a_.H);
  }

  // Sequences whose last step this was: forward those that the next step has not, reverse all at step 0.
  void finish(int64_t t) noexcept {
    const Real* h = kNoise ? carried_ : h_next_;
    if (!reverse_) {
      write_last(h, active(t + 1), active(t));
    } else if (t == 0) {
      write_last(h, 0, active(0));
    }
  }

  void write_last(const Real* h, int64_t begin, int64_t end) noexcept {
    for (int64_t b = begin; b < end; ++b) {
      Real* h_n = a_.h_n + (d_ * a_.steps.B + slot_of(a_.steps, rows_.at(b))) * a_.H;
      for (int64_t j = blocks_.begin; j < blocks_.end; ++j) {
        const Vec<Real> v = load(h + b * ldh_ + j * W);
        if ((j + 1) * W <= a_.H) {
          store(h_n + j * W, v);
        } else {
          store_lanes(h_n + j * W, v, a_.H - j * W);
        }
      }
    }
  }

  const ForwardArgs<Real>& a_;
  const Packed<Real>& packed_;
  const Group& group_;
  const int64_t d_;
  const bool reverse_;  // from the last step to the first
  const Share rows_;
  const Range blocks_;
  const bool waits_;
  const int64_t ldh_, ldx_, projected_;
  Real *h_ = nullptr, *h_next_ = nullptr, *gx_ = nullptr, *x_ = nullptr;
  Real* carried_ = nullptr;  // the state itself, where W_hh may see another
  Real* reset_ = nullptr;    // r * h
  Real* gh_ = nullptr;       // [blocks][rows][3][kLanes]
};

// What a sequence has of states: this step's, the next one's, the carried one and, of Form::before, r * h.
template <class Real>
int64_t states_of(const ForwardArgs<Real>& a) noexcept {
  return a.form == Form::before ? 4 : a.form == Form::normed || is_noisy(a.noise) ? 3 : 2;
}

// How scratch is laid out: [D] packed weights, then [groups] states, then each thread's own.
template <class Real>
struct ForwardScratch {
  int64_t packed, state, own;  // elements of one

  ForwardScratch(const ForwardArgs<Real>& a, int64_t group_size) noexcept
      : packed(round_up(Packed<Real>::elements(a.I, a.H), 16)),
        state(states_of(a) * group_size * kBatchBlock * state_pitch<Real>(a.H)),
        own(round_up(own_elements(a.form)(a.I, kBatchBlock, Packed<Real>::blocks(a.H)), 16)) {}

  static auto own_elements(Form form) noexcept {
    return form == Form::normed ? &ForwardWorker<Real, Form::normed, true, true>::scratch
                                : &ForwardWorker<Real, Form::after, false, false>::scratch;
  }

  int64_t total(int64_t D, int64_t groups, int64_t group_size) const noexcept {
    return D * packed + groups * (state + group_size * own);
  }
};

// All of a group's threads come here together and leave with the same. parts: [group.size].
template <class Real>
uint64_t fingerprint_together(const Parameters<const Real>& parameters, int64_t I, int64_t H, const Group& group,
                              uint64_t* parts) noexcept {
  parts[group.index] = fingerprint_part(parameters, I, H, group.index, group.size);
  wait_for(group);
  uint64_t sum = 0;
  for (int64_t i = 0; i < group.size; ++i) sum += parts[i];
  return sum;
}

// Packed weights of a direction that can be used: those of an earlier call if they still are the parameters,
// otherwise packed here and now. All of a group's threads come here together. parts: [2 * group.size].
template <class Real>
Packed<Real> packed_weights(const ForwardArgs<Real>& a, const Group& group, int64_t d, Real* scratch,
                            uint64_t* parts) noexcept {
  const Parameters<const Real>& parameters = a.parameters[d];
  const bool keeps = !a.packed[d] && a.pack_into[d];
  Real* fresh = keeps ? a.pack_into[d] : scratch;
  uint64_t before = 0;
  if (a.packed[d] || keeps) before = fingerprint_together(parameters, a.I, a.H, group, parts);
  if (a.packed[d]) {
    const bool stale = before != a.fingerprint[d];
    if (group.index == 0) a.packing[d] = {stale, false, 0};
    if (!stale) return Packed<Real>(a.packed[d], a.I, a.H);
  }
  pack_blocks(parameters, a.form, a.I, a.H, part_of({0, Packed<Real>::blocks(a.H)}, group.index, group.size), fresh);
  wait_for(group);
  if (keeps) {  // another thread may write to the parameters meanwhile
    const uint64_t after = fingerprint_together(parameters, a.I, a.H, group, parts + group.size);
    if (group.index == 0) a.packing[d] = {false, before == after, after};
  }
  return Packed<Real>(fresh, a.I, a.H);
}

template <class Real>
void forward_direction(const ForwardArgs<Real>& a, const Packed<Real>& packed, const Group& group, int64_t d,
                       Real* state, Real* own) noexcept {
  const bool units = splits_units<Real>(a, group.size, kForwardRows);
  const int64_t rows_at_once = units ? kBatchBlock : kBatchBlock * group.size;
  const Range all_blocks{0, Packed<Real>::blocks(a.H)};
  for (int64_t begin = 0; begin < a.steps.B; begin += rows_at_once) {
    const Range whole{begin, min_of(a.steps.B, begin + rows_at_once)};
    const Share rows = share_of(a.steps, whole, units ? 0 : group.index, units ? 1 : group.size);
    const Range blocks = units ? part_of(all_blocks, group.index, group.size) : all_blocks;
    // A place of its own for each thread: one may be a block ahead of another.
    Real* h = units ? state : state + states_of(a) * group.index * kBatchBlock * state_pitch<Real>(a.H);
    const auto run = [&](auto worker) { worker.run(h, own); };
    if (a.form == Form::before) {
      run(ForwardWorker<Real, Form::before, true, true>(a, packed, group, d, rows, blocks, units));
    } else if (a.form == Form::normed) {
      run(ForwardWorker<Real, Form::normed, true, true>(a, packed, group, d, rows, blocks, units));
    } else if (a.saved && is_noisy(a.noise)) {
      run(ForwardWorker<Real, Form::after, true, true>(a, packed, group, d, rows, blocks, units));
    } else if (a.saved) {
      run(ForwardWorker<Real, Form::after, true, false>(a, packed, group, d, rows, blocks, units));
    } else if (is_noisy(a.noise)) {
      run(ForwardWorker<Real, Form::after, false, true>(a, packed, group, d, rows, blocks, units));
    } else {
      run(ForwardWorker<Real, Form::after, false, false>(a, packed, group, d, rows, blocks, units));
    }
  }
}

}  // namespace
}  // namespace fastgru
