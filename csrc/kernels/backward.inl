// Backpropagation through time of one layer, a chunk of steps after the other, last step first (reverse
// direction: first step first). For each chunk: the gates' gradients step by step; then, with the chunk's
// gradients still in cache, dx and what the chunk adds to the weights' gradients. The chunk's buffers are
// double, so that one barrier a chunk is enough. Nothing the forward pass saved is written to.
//
//     u  = dh * z                        (goes on to h)
//     dn = (dh - u) * (1 - n^2)          dz = u * (1 - z) * (h - n)
//     dq = dn * r                        dr = dq * q * (1 - r)
//     dh(t - 1) = u + W_hh^T (dr, dz, dq)          dx = W_ih^T (dr, dz, dn)
//
// Form::normed: (dr, dz, dq) and (dr, dz, dn) go through their norms before they are multiplied. Form::before: with
// p = W_hn^T dn, dr = p * h * r * (1 - r) and dh(t - 1) = u + p * r + W_hr^T dr + W_hz^T dz.
#pragma once

#include "layer_norm.inl"

namespace fastgru {
namespace {

// Rows of a chunk. A tile of gate gradients (8 KiB) and a panel of x or h (32 KiB) then share L1.
constexpr int64_t kChunkRows = 256;
// Where one thread does the steps and the others the rest: less is left for them to do when the steps are over.
constexpr int64_t kPipelinedRows = 64;
// Units that a chunk's panels are multiplied with at once where the panels lie beyond L2.
constexpr int64_t kOuterUnits = 64;

// `rows` rows of at most 2 * kLanes columns each, `pitch` numbers apart, appended to a panel.
template <class Real>
FASTGRU_INLINE void copy_to_panels(const Real* from, int64_t columns, int64_t panel_pitch, Real* to) noexcept {
  constexpr int64_t W = kLanes<Real>;
  for (int64_t c = 0; c * 2 * W < columns; ++c) {
    const int64_t left = columns - c * 2 * W;
    copy_padded(to + c * panel_pitch, from + c * 2 * W, left);
    if (left > W) {
      copy_padded(to + c * panel_pitch + W, from + c * 2 * W + W, left - W);
    } else {
      store(to + c * panel_pitch + W, Vec<Real>{});
    }
  }
}

// w [3H, N] as panels [N / 2 kLanes][3H][2 kLanes], its rows taken from first_row on, round to it again.
template <class Real>
void pack_columns(const Real* w, int64_t H, int64_t N, int64_t first_row, Range panels, Real* to) noexcept {
  constexpr int64_t W2 = 2 * kLanes<Real>;
  for (int64_t k = 0; k < 3 * H; ++k) {
    const int64_t row = first_row + k < 3 * H ? first_row + k : first_row + k - 3 * H;
    copy_to_panels(w + row * N + panels.begin * W2, min_of(panels.end * W2, N) - panels.begin * W2, 3 * H * W2,
                   to + (panels.begin * 3 * H + k) * W2);
  }
}

// Where in a row of dgates what lies, H numbers each.
//   after: [n, r, z, q]; (n, r, z) is what dx needs and (r, z, q) what dh needs, each in one piece
//   before: [n, r, z]; dh needs (r, z), and n in a product of its own
//   normed: [n, r, z, q] of gain * norm + bias, then (n, r, z) of W_ih x and (r, z, q) of W_hh h
constexpr int64_t dgates_width(Form form) noexcept { return form == Form::after ? 4 : form == Form::before ? 3 : 10; }
constexpr int64_t of_input(Form form) noexcept { return form == Form::normed ? 4 : 0; }
constexpr int64_t of_recurrent(Form form) noexcept { return form == Form::normed ? 7 : 1; }

// A tile of one vector of units at one step.
template <class Real>
struct GradientTile {
  int64_t rows, units, H;
  const Real* dh;  // [rows], ldd apart: W_hh^T (dr, dz, dq) of the step after
  int64_t ldd;
  Real* carry;  // [rows], ldc apart: u of the step after; replaced by this step's
  int64_t ldc;
  const Real* dy[kBackwardRows];
  const Real* h[kBackwardRows];  // before this step
  const Real* saved;             // [rows], lds apart
  int64_t lds;
  Real* dgates;  // [rows], ldg apart
  int64_t ldg;
  // With noise alone, and in forms but the first.
  Real keep;
  const Real* zoneout[kBackwardRows];    // m, or null: keep
  const Real* recurrent[kBackwardRows];  // or null: 1
  // Of Form::normed alone; biases may be null.
  const Real *g_ih, *g_hh, *b_ih, *b_hh;
};

// The gates of a row that is saved normalised.
template <class Real>
struct Gates {
  Vec<Real> r, z, n, q;
};

template <class Real, bool kPart>
FASTGRU_INLINE Gates<Real> gates_of(const GradientTile<Real>& tile, const Real* saved) noexcept {
  const auto affine = [&](int64_t side, int64_t gate, const Real* gain, const Real* bias)
                          __attribute__((always_inline)) {
                            const Vec<Real> v = load_if<kPart>(saved + (side * 3 + gate) * tile.H, tile.units);
                            const Vec<Real> product = v * load_if<kPart>(gain + gate * tile.H, tile.units);
                            return bias ? product + load_if<kPart>(bias + gate * tile.H, tile.units) : product;
                          };
  const auto x = [&](int64_t gate) __attribute__((always_inline)) { return affine(0, gate, tile.g_ih, tile.b_ih); };
  const auto h = [&](int64_t gate) __attribute__((always_inline)) { return affine(1, gate, tile.g_hh, tile.b_hh); };
  const Vec<Real> r = sigmoid<Real>(x(0) + h(0)), z = sigmoid<Real>(x(1) + h(1)), q = h(2);
  return {r, z, tanh<Real>(x(2) + r * q), q};
}

template <class Real, Form kForm, bool kPart>
FASTGRU_INLINE Gates<Real> saved_gates(const GradientTile<Real>& tile, const Real* saved) noexcept {
  if constexpr (kForm == Form::normed) return gates_of<Real, kPart>(tile, saved);
  const int64_t H = tile.H, units = tile.units;
  return {load_if<kPart>(saved, units), load_if<kPart>(saved + H, units), load_if<kPart>(saved + 2 * H, units),
          load_if<kPart>(saved + 3 * H, units)};
}

template <class Real, Form kForm, bool kPart, bool kNoise>
[[gnu::noinline]] void differentiate_gates(const GradientTile<Real>& tile) noexcept {
  const int64_t H = tile.H, units = tile.units;
  for (int64_t m = 0; m < tile.rows; ++m) {
    const auto [r, z, n, q] = saved_gates<Real, kForm, kPart>(tile, tile.saved + m * tile.lds);
    const Vec<Real> h = load_if<kPart>(tile.h[m], units), dy = load_if<kPart>(tile.dy[m], units);
    const Vec<Real> whole = dy + (load(tile.carry + m * tile.ldc) + load(tile.dh + m * tile.ldd));
    Vec<Real> dh = whole;
    if constexpr (kNoise) {
      dh *= tile.zoneout[m] ? load_if<kPart>(tile.zoneout[m], units) : splat(tile.keep);
    }
    const Vec<Real> u = dh * z, dn = (dh - u) * (Real(1) - n * n), dz = u * (Real(1) - z) * (h - n);
    const Vec<Real> dq = dn * r, dr = dq * q * (Real(1) - r);
    store(tile.carry + m * tile.ldc, kNoise ? u + (whole - dh) : u);
    Real* dgates = tile.dgates + m * tile.ldg;
    store_if<kPart>(dgates, dn, units);
    store_if<kPart>(dgates + H, dr, units);
    store_if<kPart>(dgates + 2 * H, dz, units);
    store_if<kPart>(dgates + 3 * H, dq, units);
  }
}

// Form::before, first half: dn, dz and the carry.
template <class Real, bool kPart>
[[gnu::noinline]] void differentiate_candidate(const GradientTile<Real>& tile) noexcept {
  const int64_t H = tile.H, units = tile.units;
  for (int64_t m = 0; m < tile.rows; ++m) {
    const Real* saved = tile.saved + m * tile.lds;
    const Vec<Real> z = load_if<kPart>(saved + H, units), n = load_if<kPart>(saved + 2 * H, units);
    const Vec<Real> h = load_if<kPart>(tile.h[m], units), dy = load_if<kPart>(tile.dy[m], units);
    const Vec<Real> whole = dy + (load(tile.carry + m * tile.ldc) + load(tile.dh + m * tile.ldd));
    const Vec<Real> dh = whole * (tile.zoneout[m] ? load_if<kPart>(tile.zoneout[m], units) : splat(tile.keep));
    const Vec<Real> u = dh * z;
    store(tile.carry + m * tile.ldc, u + (whole - dh));
    store_if<kPart>(tile.dgates + m * tile.ldg, (dh - u) * (Real(1) - n * n), units);
    store_if<kPart>(tile.dgates + m * tile.ldg + 2 * H, u * (Real(1) - z) * (h - n), units);
  }
}

// Form::before, second half, dh being W_hn^T dn: dr, and what goes to h through r * h.
template <class Real, bool kPart>
[[gnu::noinline]] void differentiate_reset(const GradientTile<Real>& tile) noexcept {
  for (int64_t m = 0; m < tile.rows; ++m) {
    const Vec<Real> r = load_if<kPart>(tile.saved + m * tile.lds, tile.units);
    Vec<Real> seen = load_if<kPart>(tile.h[m], tile.units), through = load(tile.dh + m * tile.ldd) * r;
    if (tile.recurrent[m]) {
      const Vec<Real> factors = load_if<kPart>(tile.recurrent[m], tile.units);
      seen *= factors;
      store(tile.carry + m * tile.ldc, load(tile.carry + m * tile.ldc) + through * factors);
    } else {
      store(tile.carry + m * tile.ldc, load(tile.carry + m * tile.ldc) + through);
    }
    store_if<kPart>(tile.dgates + m * tile.ldg + tile.H, through * seen * (Real(1) - r), tile.units);
  }
}

// to[m] = c[m], or is added to; rows of c are 2 * kLanes apart.
template <class Real>
FASTGRU_INLINE void write_row(Real* to, const Real* c, int64_t columns, bool adds) noexcept {
  constexpr int64_t W = kLanes<Real>;
  for (int64_t i = 0; i < min_of(columns, 2 * W); i += W) {
    const Vec<Real> v = load(c + i);
    if (columns - i >= W) {
      store(to + i, adds ? load(to + i) + v : v);
    } else {
      store_lanes(to + i, adds ? load_lanes(to + i, columns - i) + v : v, columns - i);
    }
  }
}

// Where a group's shared scratch and a thread's own lie. Elements of Real.
template <class Real>
struct BackwardScratch {
  static constexpr int64_t W = kLanes<Real>;
  int64_t batch, chunk;                                           // most sequences at once, most rows in a chunk
  int64_t ldc, ldg;                                               // pitch of carry and of dgates
  int64_t x_panels, h_panels;                                     // of 2 * kLanes columns
  int64_t carry, dgates, x, h, reset, w_hh, w_ih, sums, initial;  // sizes
  int64_t units;                                                  // whose gradients are packed at once
  int64_t own;

  BackwardScratch(const BackwardArgs<Real>& a, int64_t group_size) noexcept
      : batch(min_of(a.steps.B, kBatchBlock * group_size)),
        chunk(max_of(a.form == Form::normed ? kChunkRows / 2 : kChunkRows, batch)),
        ldc(round_up(a.H, 2 * W) + W),
        ldg(round_up(dgates_width(a.form) * a.H, W) + W),
        x_panels(divide_up(a.I, 2 * W)),
        h_panels(divide_up(a.H, 2 * W)),
        carry(batch * ldc),
        dgates(chunk * ldg),
        x(chunk * x_panels * 2 * W),
        h(chunk * h_panels * 2 * W),
        reset(a.form == Form::before ? h : 0),
        w_hh(h_panels * 3 * a.H * 2 * W),
        w_ih(a.dx.data ? x_panels * 3 * a.H * 2 * W : 0),
        sums(dgates_width(a.form) * round_up(a.H, W)),
        initial(a.dinitial ? group_size * h_panels * 2 * W : 0),
        units((x + h) * static_cast<int64_t>(sizeof(Real)) < kWeightBytesPerCore ? kOuterRows : kOuterUnits),
        own(chunk * units) {}

  int64_t shared() const noexcept {
    return round_up(carry + 2 * (dgates + x + h + reset) + w_hh + w_ih + sums + initial, 16);
  }
};

// One thread's part in one direction.
template <class Real, Form kForm>
class BackwardWorker {
 public:
  BackwardWorker(const BackwardArgs<Real>& args, const BackwardScratch<Real>& sizes, const Group& group,
                 const Team& team, int64_t direction, Real* shared, Real* own) noexcept
      : a_(args),
        g_(args.gradients[direction]),
        size_(sizes),
        group_(group),
        team_(team),
        d_(direction),
        reverse_(direction == 1 || args.reverse),
        units_split_(splits_units<Real>(args, group.size, kBackwardRows)),
        pipelined_(group.size > 1 && !units_split_ && args.steps.B == 1),
        own_blocks_(own_part({0, divide_up(args.H, W)})),
        own_(own) {
    carry_ = shared;
    dgates_[0] = carry_ + sizes.carry;
    dgates_[1] = dgates_[0] + sizes.dgates;
    x_[0] = dgates_[1] + sizes.dgates;
    x_[1] = x_[0] + sizes.x;
    h_[0] = x_[1] + sizes.x;
    h_[1] = h_[0] + sizes.h;
    reset_[0] = h_[1] + sizes.h;
    reset_[1] = reset_[0] + sizes.reset;
    w_hh_ = reset_[1] + sizes.reset;
    w_ih_ = w_hh_ + sizes.w_hh;
    sums_ = w_ih_ + sizes.w_ih;
    initial_ = sums_ + sizes.sums;
  }

  void run() noexcept {
    prepare();
    for (int64_t begin = 0; begin < a_.steps.B; begin += size_.batch) {
      batch_ = {begin, min_of(a_.steps.B, begin + size_.batch)};
      rows_ = share_of(a_.steps, {0, batch_.size()}, units_split_ ? 0 : group_.index, units_split_ ? 1 : group_.size);
      panels_ = part_of({0, size_.h_panels}, units_split_ ? group_.index : 0, units_split_ ? group_.size : 1);
      run_batch();
    }
    if (g_.b_ih) write_sums(g_.b_ih, 1, 2, 0);
    if (g_.b_hh) write_sums(g_.b_hh, 1, 2, kForm == Form::before ? 0 : 3);
    if (kForm == Form::normed && g_.g_ih) write_sums(g_.g_ih, 5, 6, 4);
    if (kForm == Form::normed && g_.g_hh) write_sums(g_.g_hh, 7, 8, 9);
    if (a_.dinitial) write_initial();
  }

 private:
  static constexpr int64_t W = kLanes<Real>, W2 = 2 * W;

  // A chunk: steps [begin, end) in the order they are worked on, `rows` rows, in buffer `buffer`.
  struct Chunk {
    int64_t begin, end, rows;
    int buffer;
  };

  // The thread's part of work on a whole chunk. A single sequence's steps are one thread's, the last one's;
  // it does nothing else, and the others work on one chunk while it is at the next.
  Range own_part(Range whole) const noexcept {
    if (!pipelined_) return part_of(whole, group_.index, group_.size);
    if (group_.index == group_.size - 1) return {whole.end, whole.end};
    return part_of(whole, group_.index, group_.size - 1);
  }

  int64_t time_of(int64_t s) const noexcept { return reverse_ ? s : a_.steps.T - 1 - s; }

  // Of the batch's sequences, those that have step t.
  int64_t rows_of(int64_t t) const noexcept {
    return min_of(max_of(rows_at(a_.steps, t) - batch_.begin, 0), batch_.size());
  }

  int64_t active(int64_t s) const noexcept { return rows_of(time_of(s)); }

  void prepare() noexcept {
    const Parameters<const Real>& w = a_.parameters[d_];
    pack_columns(w.w_hh, a_.H, a_.H, 0, part_of({0, size_.h_panels}, group_.index, group_.size), w_hh_);
    if (a_.dx.data) {
      pack_columns(w.w_ih, a_.H, a_.I, 2 * a_.H, part_of({0, size_.x_panels}, group_.index, group_.size), w_ih_);
    }
    for (int64_t which = 0; which < dgates_width(kForm); ++which) {
      for (int64_t j = own_blocks_.begin; j < own_blocks_.end; ++j) store(sum(which, j), Vec<Real>{});
    }
    if (a_.dinitial) {
      for (int64_t i = 0; i < size_.h_panels * W2; i += W) store(initial_sum(group_.index) + i, Vec<Real>{});
    }
    wait_for(group_);
  }

  // What is added up over all steps: the gates n, r, z, q for the biases; of Form::normed then what the gains get of
  // n, r, z and of r, z, q.
  Real* sum(int64_t which, int64_t block) const noexcept { return sums_ + which * round_up(a_.H, W) + block * W; }

  // [h_panels, 2 * kLanes]: what a thread's sequences add to the gradient of the initial state.
  Real* initial_sum(int64_t thread) const noexcept { return initial_ + thread * size_.h_panels * W2; }

  void run_batch() noexcept {
    start();
    // Both directions add to dx. Each writes the half of the rows that it comes to first and adds to the
    // other, which it begins only when both are through with the first half.
    bool crossed = group_.groups == 1;
    const int64_t T = a_.steps.T, half = crossed ? 0 : half_of_rows(), middle = d_ ? half : T - half;
    Chunk chunk{0, 0, 0, 0};
    for (int64_t s = 0; s < T; s = chunk.end) {
      chunk = next_chunk(s, group_.groups == 2 && s < middle ? middle : T, chunk.buffer ^ 1);
      for (int64_t row = 0; s < chunk.end; ++s) {
        step(s, dgates_[chunk.buffer] + row * size_.ldg);
        row += active(s);
        if (units_split_) wait_for(group_);
      }
      pack_chunk(chunk);
      wait_for(group_);
      if (!crossed && chunk.begin >= middle) cross(crossed);
      add_to_weights(chunk);
      if (a_.dx.data) write_dx(chunk, group_.groups == 1 ? d_ == 1 : chunk.begin >= middle);
    }
    if (!crossed) cross(crossed);
    if (a_.dh0 || a_.dinitial) step(T, nullptr);
    wait_for(group_);
  }

  // The first so many steps have half of the batch's rows: half of the steps, or fewer where sequences end early.
  int64_t half_of_rows() const noexcept {
    int64_t rows = 0, steps = 0;
    for (int64_t t = 0; t < a_.steps.T; ++t) rows += rows_of(t);
    for (int64_t before = 0; 2 * before < rows; ++steps) before += rows_of(steps);
    return steps;
  }

  void cross(bool& crossed) const noexcept {
    crossed = true;
    wait_at(*team_.all, static_cast<int32_t>(2 * group_.size));
  }

  Chunk next_chunk(int64_t begin, int64_t limit, int buffer) const noexcept {
    Chunk chunk{begin, begin, 0, buffer};
    const int64_t most = pipelined_ ? kPipelinedRows : size_.chunk;
    while (chunk.end < limit && chunk.rows + active(chunk.end) <= most) chunk.rows += active(chunk.end++);
    return chunk;
  }

  // The carry begins as dh_n; sequences without steps end with it.
  void start() noexcept {
    for (int64_t k = 0; k < rows_.count; ++k) {
      const int64_t b = rows_.at(k);
      const int64_t at = (d_ * a_.steps.B + slot_of(a_.steps, batch_.begin + b)) * a_.H;
      for (int64_t i = panels_.begin * W2; i < panels_.end * W2; i += W) {
        Real* carry = carry_ + b * size_.ldc + i;
        if (a_.dh_n) {
          copy_padded(carry, a_.dh_n + at + i, a_.H - i);
        } else {
          store(carry, Vec<Real>{});
        }
        if (a_.dh0 && b >= rows_at(a_.steps, 0) - batch_.begin)
          write_row(a_.dh0 + at + i, carry, min_of(a_.H - i, W), false);
      }
    }
    previous_ = nullptr;
  }

  // Which of all sequences number b of this thread's is. Below, b counts these.
  int64_t sequence(int64_t b) const noexcept { return batch_.begin + rows_.at(b); }

  // dgates of step s, to `dgates` [active, ldg]; the dh0 of sequences that end with the step before.
  void step(int64_t s, Real* dgates) noexcept {
    const int64_t n = rows_.below(active(s)), before = rows_.below(active(s - 1));
    alignas(64) Real dh[kBackwardRows * W2];
    const int64_t K = 3 * a_.H, multiplied = kForm == Form::before ? 2 * a_.H : K;
    for (int64_t panel = panels_.begin; panel < panels_.end; ++panel) {
      for (int64_t b = 0, m; b < before; b += m) {
        m = tile_rows(before - b, kBackwardRows);
        multiply<Real, kBackwardRows, 2>(m, previous_ + rows_.at(b) * size_.ldg + of_recurrent(kForm) * a_.H,
                                         rows_.stride * size_.ldg, w_hh_ + panel * K * W2, multiplied, kZeros<Real>, dh,
                                         quarter_of<Real, 2>(w_hh_, panels_, panel + 1, K, b, m));
        for (int64_t i = 0; a_.noise.recurrent && i < m; ++i) mask(panel, sequence(b + i), dh + i * W2);
        if (a_.resets.at.data) cut(time_of(s - 1), panel, b, m, dh);
        const int64_t going_on = min_of(max_of(n - b, 0), m);
        if (going_on > 0) gates(s, panel, b, going_on, dh, W2, dgates);
        if (a_.dh0) end_rows(panel, b + going_on, b + m, dh + going_on * W2);
      }
      for (int64_t b = before, m; b < n; b += m) {
        m = tile_rows(n - b, kBackwardRows);
        gates(s, panel, b, m, kZeros<Real>, 0, dgates);
      }
    }
    if constexpr (kForm == Form::before) finish_before(s, n, dgates);
    if constexpr (kForm == Form::normed) finish_normed(s, n, dgates);
    previous_ = dgates;
  }

  // dn of all units must be known before dr.
  void finish_before(int64_t s, int64_t n, Real* dgates) noexcept {
    alignas(64) Real dh[kBackwardRows * W2];
    const int64_t K = 3 * a_.H, t = time_of(s);
    for (int64_t panel = panels_.begin; panel < panels_.end; ++panel) {
      for (int64_t b = 0, m; b < n; b += m) {
        m = tile_rows(n - b, kBackwardRows);
        multiply<Real, kBackwardRows, 2>(m, dgates + rows_.at(b) * size_.ldg, rows_.stride * size_.ldg,
                                         w_hh_ + (panel * K + 2 * a_.H) * W2, a_.H, kZeros<Real>, dh, nullptr);
        for (int64_t unit = panel * W2; unit < min_of(a_.H, panel * W2 + W2); unit += W) {
          const GradientTile<Real> tile = gradient_tile(t, b, m, unit, dh + (unit - panel * W2), W2, dgates);
          tile.units >= W ? differentiate_reset<Real, false>(tile) : differentiate_reset<Real, true>(tile);
        }
      }
    }
  }

  // Through the norms of W_ih x and W_hh h.
  void finish_normed(int64_t s, int64_t n, Real* dgates) noexcept {
    const int64_t H = a_.H, t = time_of(s);
    const Parameters<const Real>& p = a_.parameters[d_];
    for (int64_t b = 0; b < n; ++b) {
      const Real* saved = saved_of(t, sequence(b));
      Real* row = dgates + rows_.at(b) * size_.ldg;
      differentiate_norm<Real>({row + H, row + 2 * H, row}, saved, p.g_ih, saved[6 * H], H,
                               {row + 5 * H, row + 6 * H, row + 4 * H});
      differentiate_norm<Real>({row + H, row + 2 * H, row + 3 * H}, saved + 3 * H, p.g_hh, saved[6 * H + 1], H,
                               {row + 7 * H, row + 8 * H, row + 9 * H});
    }
  }

  // Multiplies a row of a panel with the factors of the h that entered W_hh.
  void mask(int64_t panel, int64_t sequence, Real* row) const noexcept {
    const Real* recurrent = recurrent_of(a_.noise, a_.steps, d_, sequence, a_.H);
    for (int64_t unit = panel * W2; unit < min_of(a_.H, panel * W2 + W2); unit += W, row += W) {
      store(row, load(row) * load_lanes(recurrent + unit, min_of(W, a_.H - unit)));
    }
  }

  // What step t has of gradients for the state before it goes no further where something parts the two: where that
  // is a reset, it goes to the initial state.
  void cut(int64_t t, int64_t panel, int64_t b, int64_t m, Real* dh) noexcept {
    for (int64_t row = b; row < b + m; ++row) {
      const uint8_t bits = parted(a_.resets, a_.steps, reverse_, t, sequence(row));
      if (bits == 0) continue;
      for (int64_t i = 0; i < W2; i += W) {
        Real *carry = carry_ + rows_.at(row) * size_.ldc + panel * W2 + i, *product = dh + (row - b) * W2 + i;
        if (a_.dinitial && is_fresh(a_.resets, bits)) {
          Real* sum = initial_sum(group_.index) + panel * W2 + i;
          store(sum, load(sum) + (load(carry) + load(product)));
        }
        store(carry, Vec<Real>{});
        store(product, Vec<Real>{});
      }
    }
  }

  void gates(int64_t s, int64_t panel, int64_t b, int64_t m, const Real* dh, int64_t ldd, Real* dgates) noexcept {
    const int64_t t = time_of(s);
    for (int64_t unit = panel * W2; unit < min_of(a_.H, panel * W2 + W2); unit += W) {
      const GradientTile<Real> tile = gradient_tile(t, b, m, unit, dh + (unit - panel * W2), ldd, dgates);
      if constexpr (kForm == Form::before) {
        tile.units >= W ? differentiate_candidate<Real, false>(tile) : differentiate_candidate<Real, true>(tile);
      } else if constexpr (kForm == Form::normed) {
        tile.units >= W ? differentiate_gates<Real, kForm, false, true>(tile)
                        : differentiate_gates<Real, kForm, true, true>(tile);
      } else if (is_noisy(a_.noise)) {
        tile.units >= W ? differentiate_gates<Real, kForm, false, true>(tile)
                        : differentiate_gates<Real, kForm, true, true>(tile);
      } else {
        tile.units >= W ? differentiate_gates<Real, kForm, false, false>(tile)
                        : differentiate_gates<Real, kForm, true, false>(tile);
      }
    }
  }

  GradientTile<Real> gradient_tile(int64_t t, int64_t b, int64_t m, int64_t unit, const Real* dh, int64_t ldd,
                                   Real* dgates) const noexcept {
    GradientTile<Real> tile;
    tile.rows = m;
    tile.units = a_.H - unit;
    tile.H = a_.H;
    tile.dh = dh;
    tile.ldd = ldd;
    tile.carry = carry_ + rows_.at(b) * size_.ldc + unit;
    tile.ldc = rows_.stride * size_.ldc;
    for (int64_t i = 0; i < m; ++i) {
      tile.dy[i] = a_.dy.data ? row_of(a_.dy, a_.steps, t, sequence(b + i)) + d_ * a_.H + unit : kZeros<Real>;
      const Real* h = state_before(t, sequence(b + i));
      tile.h[i] = h ? h + unit : kZeros<Real>;
    }
    tile.saved = saved_of(t, sequence(b)) + unit;
    tile.lds = rows_.stride * saved_pitch(kForm, a_.H);
    tile.dgates = dgates + rows_.at(b) * size_.ldg + unit;
    tile.ldg = rows_.stride * size_.ldg;
    if (kForm != Form::after || is_noisy(a_.noise)) set_noise(tile, t, b, unit);
    if constexpr (kForm == Form::normed) {
      const Parameters<const Real>& p = a_.parameters[d_];
      tile.g_ih = p.g_ih + unit;
      tile.g_hh = p.g_hh + unit;
      tile.b_ih = p.b_ih ? p.b_ih + unit : nullptr;
      tile.b_hh = p.b_hh ? p.b_hh + unit : nullptr;
    }
    return tile;
  }

  void set_noise(GradientTile<Real>& tile, int64_t t, int64_t b, int64_t unit) const noexcept {
    tile.keep = a_.noise.keep;
    const Series<const Real>& zoneout = a_.noise.zoneout;
    for (int64_t i = 0; i < tile.rows; ++i) {
      tile.zoneout[i] = zoneout.data ? row_of(zoneout, a_.steps, t, sequence(b + i)) + d_ * a_.H + unit : nullptr;
      const Real* recurrent = recurrent_of(a_.noise, a_.steps, d_, sequence(b + i), a_.H);
      tile.recurrent[i] = recurrent ? recurrent + unit : nullptr;
    }
  }

  const Real* saved_of(int64_t t, int64_t sequence) const noexcept {
    const int64_t row = d_ * a_.steps.saved_rows() + saved_row(a_.steps, t) + sequence;
    return a_.saved + row * saved_pitch(kForm, a_.H);
  }

  void end_rows(int64_t panel, int64_t begin, int64_t end, const Real* dh) noexcept {
    for (int64_t b = begin; b < end; ++b) {
      Real* dh0 = a_.dh0 + (d_ * a_.steps.B + slot_of(a_.steps, sequence(b))) * a_.H + panel * W2;
      const Real* carry = carry_ + rows_.at(b) * size_.ldc + panel * W2;
      alignas(64) Real sum[W2];
      store(sum, load(carry) + load(dh + (b - begin) * W2));
      store(sum + W, load(carry + W) + load(dh + (b - begin) * W2 + W));
      write_row(dh0, sum, a_.H - panel * W2, false);
    }
  }

  // h that entered step t of a sequence, or null where it was zero.
  const Real* state_before(int64_t t, int64_t sequence) const noexcept {
    if (a_.resets.at.data && is_fresh(a_.resets, parted(a_.resets, a_.steps, reverse_, t, sequence))) {
      return a_.resets.initial ? a_.resets.initial + d_ * a_.H : nullptr;
    }
    const int64_t before = reverse_ ? t + 1 : t - 1;
    if (sequence < rows_at(a_.steps, before)) return row_of(a_.y, a_.steps, before, sequence) + d_ * a_.H;
    return a_.h0 ? a_.h0 + (d_ * a_.steps.B + slot_of(a_.steps, sequence)) * a_.H : nullptr;
  }

  // Calls f(row in the chunk, t, sequence) for some of the chunk's rows.
  template <class F>
  FASTGRU_INLINE void for_rows(const Chunk& chunk, Range rows, F f) const noexcept {
    int64_t row = 0;
    for (int64_t s = chunk.begin; s < chunk.end && row < rows.end; ++s) {
      const int64_t n = active(s);
      for (int64_t b = max_of(rows.begin - row, 0); b < min_of(n, rows.end - row); ++b) {
        f(row + b, time_of(s), batch_.begin + b);
      }
      row += n;
    }
  }

  // x and h of the chunk as panels.
  void pack_chunk(const Chunk& chunk) noexcept {
    Real *x = x_[chunk.buffer], *h = h_[chunk.buffer];
    const int64_t pitch = size_.chunk * W2;
    for_rows(chunk, own_part({0, chunk.rows}), [&](int64_t row, int64_t t, int64_t sequence) {
      if (g_.w_ih) copy_to_panels(row_of(a_.x, a_.steps, t, sequence), a_.I, pitch, x + row * W2);
      if (!g_.w_hh) return;
      const Real* before = state_before(t, sequence);
      if (before) {
        copy_to_panels(before, a_.H, pitch, h + row * W2);
        for (int64_t c = 0; a_.noise.recurrent && c < size_.h_panels; ++c) mask(c, sequence, h + row * W2 + c * pitch);
      } else {
        for (int64_t c = 0; c < size_.h_panels; ++c) {
          store(h + row * W2 + c * pitch, Vec<Real>{});
          store(h + row * W2 + c * pitch + W, Vec<Real>{});
        }
      }
      if constexpr (kForm == Form::before)
        pack_reset(saved_of(t, sequence), h + row * W2, reset_[chunk.buffer] + row * W2);
    });
  }

  // A row of h's panels times r.
  void pack_reset(const Real* r, const Real* h, Real* to) const noexcept {
    const int64_t pitch = size_.chunk * W2;
    for (int64_t c = 0; c < size_.h_panels; ++c) {
      for (int64_t i = 0; i < W2; i += W) {
        const int64_t unit = c * W2 + i;
        const Vec<Real> factors = a_.H - unit >= W ? load(r + unit) : load_lanes(r + unit, max_of(a_.H - unit, 0));
        store(to + c * pitch + i, load(h + c * pitch + i) * factors);
      }
    }
  }

  // The chunk's part of dw_ih, dw_hh and the bias sums, for the thread's own units.
  void add_to_weights(const Chunk& chunk) noexcept {
    const bool adds = batch_.begin > 0 || chunk.begin > 0;
    const Real* dgates = dgates_[chunk.buffer];
    const int64_t end = min_of(own_blocks_.end * W, a_.H);
    for (int64_t gate = 0; gate < 4; ++gate) {  // n r z q
      // Row of the weights, in torch's order r z n: gate n (of x) and q (of h) are both the last.
      const int64_t first = (gate == 0 || gate == 3 ? 2 : gate - 1) * a_.H;
      for (int64_t unit = own_blocks_.begin * W; unit < end; unit += size_.units) {
        const int64_t units = min_of(size_.units, end - unit), row = first + unit;
        if (gate < 3) pack_gradients(dgates + (of_input(kForm) + gate) * a_.H + unit, chunk.rows, units);
        if (g_.w_ih && gate < 3) add_product(x_[chunk.buffer], chunk.rows, a_.I, g_.w_ih + row * a_.I, units, adds);
        if (!g_.w_hh || gate == 0) continue;
        const bool is_reset = kForm == Form::before && gate == 3;  // W_hn saw r * h, and n's gradient is its
        const int64_t at = is_reset ? 0 : of_recurrent(kForm) + gate - 1;
        if (gate == 3 || kForm == Form::normed) pack_gradients(dgates + at * a_.H + unit, chunk.rows, units);
        const Real* panels = is_reset ? reset_[chunk.buffer] : h_[chunk.buffer];
        add_product(panels, chunk.rows, a_.H, g_.w_hh + row * a_.H, units, adds);
      }
      if ((g_.b_ih || g_.b_hh) && gate < dgates_width(kForm)) add_bias(dgates, gate, chunk.rows);
    }
    if (kForm == Form::normed && (g_.g_ih || g_.g_hh)) add_gains(chunk);
  }

  // The gradients of some units as [units / kOuterRows][rows][kOuterRows].
  void pack_gradients(const Real* dgates, int64_t rows, int64_t units) noexcept {
    for (int64_t unit = 0; unit < units; unit += kOuterRows) {
      const int64_t m = min_of(kOuterRows, units - unit);
      const Real* from = dgates + unit;
      Real* to = own_ + unit * size_.chunk;
      for (int64_t k = 0; k < rows; ++k, from += size_.ldg, to += kOuterRows) {
        if (m == kOuterRows) {
          __builtin_memcpy(to, from, sizeof(Real) * kOuterRows);
        } else {
          for (int64_t i = 0; i < kOuterRows; ++i) to[i] = i < m ? from[i] : Real(0);
        }
      }
    }
  }

  // A panel is in L1 while all of the units go over it: it is read from beyond once for them together.
  void add_product(const Real* panels, int64_t rows, int64_t columns, Real* out, int64_t units, bool adds) noexcept {
    alignas(64) Real c[kOuterRows * W2];
    for (int64_t column = 0; column < columns; column += W2) {
      for (int64_t unit = 0; unit < units; unit += kOuterRows) {
        Real* to = out + unit * columns + column;
        outer_tile<Real, kOuterRows>(own_ + unit * size_.chunk, panels + column * size_.chunk, rows, c, to, columns);
        for (int64_t i = 0; i < min_of(kOuterRows, units - unit); ++i) {
          write_row(to + i * columns, c + i * W2, columns - column, adds);
        }
      }
    }
  }

  void add_bias(const Real* dgates, int64_t gate, int64_t rows) noexcept {
    for (int64_t j = own_blocks_.begin; j < own_blocks_.end; ++j) {
      const Real* from = dgates + gate * a_.H + j * W;
      Vec<Real> total{};
      for (int64_t k = 0; k < rows; ++k) total += load(from + k * size_.ldg);
      store(sum(gate, j), load(sum(gate, j)) + total);
    }
  }

  // What the chunk adds to the gradients of the gains: those of gain * v + bias times v.
  void add_gains(const Chunk& chunk) noexcept {
    const int64_t H = a_.H;
    for_rows(chunk, {0, chunk.rows}, [&](int64_t row, int64_t t, int64_t sequence) {
      const Real *v = saved_of(t, sequence), *dgates = dgates_[chunk.buffer] + row * size_.ldg;
      for (int64_t gate = 0; gate < 4; ++gate) {  // n r z q
        for (int64_t j = own_blocks_.begin; j < own_blocks_.end; ++j) {
          const int64_t unit = j * W, units = min_of(W, H - unit);
          const Vec<Real> d = load_lanes(dgates + gate * H + unit, units);
          const auto add = [&](int64_t which, const Real* from) {
            store(sum(which, j), load(sum(which, j)) + d * load_lanes(from + unit, units));
          };
          if (gate < 3) add(4 + gate, v + (gate + 2) % 3 * H);
          if (gate > 0) add(6 + gate, v + (gate + 2) * H);
        }
      }
    });
  }

  // Which sums are those of r, z and n.
  void write_sums(Real* to, int64_t r, int64_t z, int64_t n) noexcept {
    const int64_t which[3] = {r, z, n};
    for (int64_t i = 0; i < 3; ++i) {
      for (int64_t j = own_blocks_.begin; j < own_blocks_.end; ++j) {
        write_row(to + i * a_.H + j * W, sum(which[i], j), min_of(W, a_.H - j * W), false);
      }
    }
  }

  // Adds up what the threads have; all of them are through with their steps.
  void write_initial() noexcept {
    for (int64_t j = own_blocks_.begin; j < own_blocks_.end; ++j) {
      alignas(64) Real sum[W];
      store(sum, load(initial_sum(0) + j * W));
      for (int64_t i = 1; i < group_.size; ++i) store(sum, load(sum) + load(initial_sum(i) + j * W));
      write_row(a_.dinitial + d_ * a_.H + j * W, sum, min_of(W, a_.H - j * W), false);
    }
  }

  // As many rows at once as stay in L2 while all panels of W_ih go over them.
  void write_dx(const Chunk& chunk, bool adds) noexcept {
    const Range own = own_part({0, chunk.rows});
    const int64_t row_bytes = 3 * a_.H * static_cast<int64_t>(sizeof(Real));
    const int64_t most = round_up(max_of(kWeightBytesPerCore / row_bytes, 1), kBackwardRows);
    for (int64_t begin = own.begin; begin < own.end; begin += most) {
      const Range rows{begin, min_of(begin + most, own.end)};
      for (int64_t panel = 0; panel < size_.x_panels; ++panel) write_dx_panel(chunk, rows, panel, adds);
    }
  }

  void write_dx_panel(const Chunk& chunk, Range rows, int64_t panel, bool adds) noexcept {
    alignas(64) Real c[kBackwardRows * W2];
    const int64_t K = 3 * a_.H;
    int64_t m = 0, done = 0;
    for_rows(chunk, rows, [&](int64_t row, int64_t t, int64_t sequence) {
      if (done == m) {
        m = tile_rows(rows.end - row, kBackwardRows);
        done = 0;
        multiply<Real, kBackwardRows, 2>(m, dgates_[chunk.buffer] + row * size_.ldg + of_input(kForm) * a_.H, size_.ldg,
                                         w_ih_ + panel * K * W2, K, kZeros<Real>, c,
                                         quarter_of<Real, 2>(w_ih_, {0, size_.x_panels}, panel + 1, K, row, m));
      }
      write_row(row_of(a_.dx, a_.steps, t, sequence) + panel * W2, c + done * W2, a_.I - panel * W2, adds);
      ++done;
    });
  }

  const BackwardArgs<Real>& a_;
  const Parameters<Real>& g_;
  const BackwardScratch<Real>& size_;
  const Group& group_;
  const Team& team_;
  const int64_t d_;
  const bool reverse_;  // from the last step to the first, so back from the first to the last
  const bool units_split_, pipelined_;
  const Range own_blocks_;  // of units, for the weights' gradients
  Real* own_;
  Range batch_{0, 0}, panels_{0, 0};
  Share rows_{0, 1, 0};  // within the batch
  Real *carry_, *dgates_[2], *x_[2], *h_[2], *reset_[2], *w_hh_, *w_ih_, *sums_, *initial_;
  const Real* previous_ = nullptr;  // dgates of the step before
};

template <class Real>
int64_t backward_scratch(const BackwardArgs<Real>& a, int32_t threads) noexcept {
  const Group group = group_of(Team{0, threads, nullptr, {nullptr, nullptr}}, a.D);
  const BackwardScratch<Real> sizes(a, group.size);
  return group.groups * (sizes.shared() + group.size * sizes.own);
}

template <class Real>
void backward(const BackwardArgs<Real>& a, Real* scratch, const Team& team) noexcept {
  const Group group = group_of(team, a.D);
  if (group.index >= group.size) return;
  const BackwardScratch<Real> sizes(a, group.size);
  Real* shared = scratch + group.group * (sizes.shared() + group.size * sizes.own);
  Real* own = shared + sizes.shared() + group.index * sizes.own;
  for (int64_t d = group.directions.begin; d < group.directions.end; ++d) {
    if (a.form == Form::before) {
      BackwardWorker<Real, Form::before>(a, sizes, group, team, d, shared, own).run();
    } else if (a.form == Form::normed) {
      BackwardWorker<Real, Form::normed>(a, sizes, group, team, d, shared, own).run();
    } else {
      BackwardWorker<Real, Form::after>(a, sizes, group, team, d, shared, own).run();
    }
  }
}

template <class Real>
int32_t backward_threads(const BackwardArgs<Real>& a, int32_t available) noexcept {
  const int64_t work = a.steps.T * a.steps.B * a.D * 6 * a.H * (a.I + a.H);
  return work < 400000 ? 1 : available;
}

}  // namespace
}  // namespace fastgru
