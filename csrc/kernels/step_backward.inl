// The gradients of a single step of a few sequences: straight from the weights as they lie in memory, as step.inl.
#pragma once

#include "layer_norm.inl"
#include "step.inl"
#include "step_records.inl"
#include "team.inl"

namespace fastgru {
namespace {

template <class Real>
bool is_single_step(const BackwardArgs<Real>& a) noexcept {
  return has_single_step(a) && !a.dinitial && a.steps.B <= kTrainedStepRows;
}

// Sequences up to which rows of weights are added up as they lie; for more, panels of them are copied first.
constexpr int64_t kRowSums = 8;
// Rows of a panel: with all of its columns it stays in L1.
constexpr int64_t kPanelRows = 256;

// out[m] += sum over k < R of g[m][k] * w[k], rows of N numbers.
template <class Real, int M, int R>
[[gnu::noinline]] void add_rows(const Real* g, int64_t ldg, const Real* w, int64_t N, Real* out, int64_t ldo) noexcept {
  constexpr int64_t W = kLanes<Real>;
  const auto add = [&](int64_t i, auto vectors, bool part) __attribute__((always_inline)) {
    constexpr int V = decltype(vectors)::value;
    const int64_t left = N - i;
    Vec<Real> sum[M][V];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        const Real* at = out + m * ldo + i + v * W;
        sum[m][v] = part ? load_lanes(at, left) : load(at);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      Vec<Real> row[V];
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        row[v] = part ? load_lanes(w + r * N + i + v * W, left) : load(w + r * N + i + v * W);
        if constexpr (M > 1) keep_in_register<Real>(row[v]);
      }
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) {
        const Vec<Real> x = splat(g[m * ldg + r]);
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sum[m][v] += x * row[v];
      }
    }
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) {
        Real* at = out + m * ldo + i + v * W;
        part ? store_lanes(at, sum[m][v], left) : store(at, sum[m][v]);
      }
    }
  };
  int64_t i = 0;
  for (; i + 2 * W <= N; i += 2 * W) add(i, Constant<2>{}, false);
  for (; i + W <= N; i += W) add(i, Constant<1>{}, false);
  if (i < N) add(i, Constant<1>{}, true);
}

// out [B, N] += g [B, K] w [K, N].
template <class Real>
class RowSums {
 public:
  static constexpr int64_t W = kLanes<Real>, W2 = 2 * W;
  static constexpr int64_t kElements = kPanelRows * W2 + kBackwardRows * W2;  // of scratch

  explicit RowSums(Real* scratch) noexcept : panel_(scratch), c_(scratch + kPanelRows * W2) {}

  void add(const Rows<Real>& g, const Real* w, int64_t K, int64_t N, Real* out, int64_t ldo) noexcept {
    if (g.range.end > kRowSums) return add_by_panels(g, w, K, N, out, ldo);
    for_tiles(g.range, 4, [&](int64_t b, int64_t m) {
      add_tile<4>(m, g.data + b * g.pitch, g.pitch, w, K, N, out + b * ldo, ldo);
    });
  }

 private:
  template <int M>
  void add_tile(int64_t count, const Real* g, int64_t ldg, const Real* w, int64_t K, int64_t N, Real* out,
                int64_t ldo) noexcept {
    if constexpr (M > 1) {
      if (count < M) return add_tile<M - 1>(count, g, ldg, w, K, N, out, ldo);
    }
    int64_t k = 0;
    for (; k + 8 <= K; k += 8) add_rows<Real, M, 8>(g + k, ldg, w + k * N, N, out, ldo);
    for (; k < K; ++k) add_rows<Real, M, 1>(g + k, ldg, w + k * N, N, out, ldo);
  }

  void add_by_panels(const Rows<Real>& g, const Real* w, int64_t K, int64_t N, Real* out, int64_t ldo) noexcept {
    for (int64_t column = 0; column < N; column += W2) {
      for (int64_t k = 0; k < K; k += kPanelRows) {
        const int64_t rows = min_of(kPanelRows, K - k);
        for (int64_t i = 0; i < rows; ++i) {
          copy_to_panels(w + (k + i) * N + column, min_of(W2, N - column), 0, panel_ + i * W2);
        }
        for_tiles(g.range, kBackwardRows, [&](int64_t b, int64_t m) {
          const Real* from = g.data + b * g.pitch + k;
          multiply<Real, kBackwardRows, 2>(m, from, g.pitch, panel_, rows, kZeros<Real>, c_, nullptr);
          for (int64_t i = 0; i < m; ++i) write_row(out + (b + i) * ldo + column, c_ + i * W2, N - column, true);
        });
      }
    }
  }

  Real *panel_, *c_;
};

// One direction of a step.
template <class Real, Form kForm>
class StepBackward : Direction<BackwardArgs<Real>> {
 public:
  // records: of all sequences; scratch: of this thread.
  StepBackward(const BackwardArgs<Real>& args, int64_t direction, Range rows, Real* records, Real* scratch) noexcept
      : Direction<BackwardArgs<Real>>(args, direction),
        p_(args.parameters[direction]),
        rows_(rows),
        records_(records) {
    Pieces<Real> pieces(scratch);
    carry_ = pieces.take(rows.size() * ldc_);
    product_ = pieces.take(rows.size() * ldc_);
    sums_ = RowSums<Real>(pieces.take(RowSums<Real>::kElements));
  }

  static int64_t elements(int64_t rows, int64_t H) noexcept {
    Pieces<Real> pieces(nullptr);
    pieces.take(rows * round_up(H, W));
    pieces.take(rows * round_up(H, W));
    pieces.take(RowSums<Real>::kElements);
    return pieces.taken();
  }

  void run() noexcept {
    for (int64_t b = rows_.begin; b < rows_.end; ++b) begin(b);
    for_tiles_of_units([&](const GradientTile<Real>& tile) {
      if constexpr (kForm == Form::before) {
        differentiate_candidate(tile);
      } else if (kForm == Form::normed || is_noisy(this->a.noise)) {
        differentiate_gates<Real, kForm, true>(tile);
      } else {
        differentiate_gates<Real, kForm, false>(tile);
      }
    });
    if constexpr (kForm == Form::before) finish_before();
    for (int64_t b = rows_.begin; b < rows_.end; ++b) finish_record(b);
    if (this->a.dh0) write_dh0();
    if (this->a.dx.data) write_dx();
  }

 private:
  static constexpr int64_t W = kLanes<Real>;

  Real* record(int64_t b) const noexcept { return records_ + b * at_.pitch(); }
  const Real* h0(int64_t b) const noexcept { return this->a.h0 ? this->state_of(this->a.h0, b) : nullptr; }
  Rows<Real> gradients(int64_t which) const noexcept {
    return {record(rows_.begin) + which * this->a.H, at_.pitch(), {0, rows_.size()}};
  }

  Real* carry(int64_t b) const noexcept { return carry_ + (b - rows_.begin) * ldc_; }
  Real* product(int64_t b) const noexcept { return product_ + (b - rows_.begin) * ldc_; }

  // The carry begins as dh_n; the record has what entered the step.
  void begin(int64_t b) noexcept {
    const int64_t H = this->a.H;
    const Real *dh_n = this->a.dh_n ? this->state_of(this->a.dh_n, b) : nullptr, *h = h0(b);
    const Real* recurrent = this->recurrent_of(b);
    for (int64_t i = 0; i < H; i += W) {
      const int64_t units = min_of(W, H - i);
      store(carry(b) + i, dh_n ? load_lanes(dh_n + i, units) : Vec<Real>{});
      Vec<Real> seen = h ? load_lanes(h + i, units) : Vec<Real>{};
      if (recurrent) seen *= load_lanes(recurrent + i, units);
      store_lanes(record(b) + at_.h() + i, seen, units);
    }
    __builtin_memcpy(record(b) + at_.x(), row_of(this->a.x, this->a.steps, 0, b),
                     static_cast<uint64_t>(this->a.I) * sizeof(Real));
  }

  template <class F>
  void for_tiles_of_units(F f) noexcept {
    for_tiles(rows_, kBackwardRows, [&](int64_t b, int64_t m) {
      for (int64_t unit = 0; unit < this->a.H; unit += W) f(tile(b, m, unit, kZeros<Real>, 0));
    });
  }

  // dh: what of the product with W_hn^T this tile needs.
  GradientTile<Real> tile(int64_t b, int64_t m, int64_t unit, const Real* dh, int64_t ldd) const noexcept {
    GradientTile<Real> tile;
    tile.rows = m;
    tile.units = this->a.H - unit;
    tile.H = this->a.H;
    tile.dh = dh;
    tile.ldd = ldd;
    tile.carry = carry(b) + unit;
    tile.ldc = ldc_;
    tile.saved = this->saved_of(kForm, 0, b) + unit;
    tile.lds = saved_pitch(kForm, this->a.H);
    tile.dgates = record(b) + unit;
    tile.ldg = at_.pitch();
    tile.keep = this->a.noise.keep;
    for (int64_t i = 0; i < m; ++i) {
      const Real *h = h0(b + i), *zoneout = this->zoneout_of(0, b + i), *recurrent = this->recurrent_of(b + i);
      tile.dy[i] = this->a.dy.data ? this->output_of(this->a.dy, 0, b + i) + unit : kZeros<Real>;
      tile.h[i] = h ? h + unit : kZeros<Real>;
      tile.zoneout[i] = zoneout ? zoneout + unit : nullptr;
      tile.recurrent[i] = recurrent ? recurrent + unit : nullptr;
    }
    if constexpr (kForm == Form::normed) set_norm(tile, p_, unit);
    return tile;
  }

  void clear_product() noexcept {
    for (int64_t i = 0; i < rows_.size() * ldc_; i += W) store(product_ + i, Vec<Real>{});
  }

  // dn of all units must be known before dr.
  void finish_before() noexcept {
    const int64_t H = this->a.H;
    clear_product();
    sums_.add(gradients(0), p_.w_hh + 2 * H * H, H, H, product_, ldc_);
    for_tiles(rows_, kBackwardRows, [&](int64_t b, int64_t m) {
      for (int64_t unit = 0; unit < H; unit += W) {
        differentiate_reset(tile(b, m, unit, product(b) + unit, ldc_));
      }
    });
  }

  void finish_record(int64_t b) noexcept {
    const int64_t H = this->a.H;
    Real* row = record(b);
    const Real* saved = this->saved_of(kForm, 0, b);
    if constexpr (kForm == Form::before) {
      multiply_into(row + at_.reset(), row + at_.h(), saved);
    } else if constexpr (kForm == Form::normed) {
      for (int64_t gate = 0; gate < 3; ++gate) {  // n r z of x; r z q of h
        multiply_into(row + at_.gains() + gate * H, row + gate * H, saved + (gate + 2) % 3 * H);
        multiply_into(row + at_.gains() + (3 + gate) * H, row + (1 + gate) * H, saved + (3 + gate) * H);
      }
      differentiate_norms(row, saved, p_, H);
    }
  }

  void multiply_into(Real* to, const Real* a, const Real* b) const noexcept {
    for (int64_t i = 0; i < this->a.H; i += W) {
      const int64_t units = min_of(W, this->a.H - i);
      store_lanes(to + i, load_lanes(a + i, units) * load_lanes(b + i, units), units);
    }
  }

  void write_dh0() noexcept {
    const int64_t H = this->a.H;
    clear_product();
    sums_.add(gradients(of_recurrent(kForm)), p_.w_hh, kForm == Form::before ? 2 * H : 3 * H, H, product_, ldc_);
    for (int64_t b = rows_.begin; b < rows_.end; ++b) {
      const Real* recurrent = this->recurrent_of(b);
      Real* to = this->state_of(this->a.dh0, b);
      for (int64_t i = 0; i < H; i += W) {
        const int64_t units = min_of(W, H - i);
        Vec<Real> through = load(product(b) + i);
        if (recurrent) through *= load_lanes(recurrent + i, units);
        store_lanes(to + i, load(carry(b) + i) + through, units);
      }
    }
  }

  // Rows of dx are dense here, of one step; the second direction adds to what the first wrote.
  void write_dx() noexcept {
    const int64_t H = this->a.H, I = this->a.I, ldx = this->a.dx.batch;
    Real* to = row_of(this->a.dx, this->a.steps, 0, rows_.begin);
    for (int64_t b = 0; this->d == 0 && b < rows_.size(); ++b) {
      __builtin_memset(to + b * ldx, 0, static_cast<uint64_t>(I) * sizeof(Real));
    }
    sums_.add(gradients(of_input(kForm) + 1), p_.w_ih, 2 * H, I, to, ldx);
    sums_.add(gradients(of_input(kForm)), p_.w_ih + 2 * H * I, H, I, to, ldx);
  }

  const Parameters<const Real>& p_;
  const RecordLayout at_{kForm, this->a.I, this->a.H};
  const int64_t ldc_ = round_up(this->a.H, W);
  const Range rows_;
  Real* records_;
  Real *carry_, *product_;  // [B], ldc_ apart: what goes on to h beside W_hh; W_hh^T dgates
  RowSums<Real> sums_{nullptr};
};

template <class Real>
bool leaves_records(const BackwardArgs<Real>& a) noexcept {
  return is_single_step(a);
}

template <class Real>
RecordArgs<Real> step_products(const BackwardArgs<Real>& a, const Real* records, int64_t d) noexcept {
  return {a.I, a.H, a.steps.B, a.form, records, a.gradients[d], false};
}

template <class Real>
int64_t thread_step_scratch(const BackwardArgs<Real>& a, int64_t threads) noexcept {
  return StepBackward<Real, Form::after>::elements(divide_up(a.steps.B, threads), a.H);
}

// Records of one direction at a time where the caller takes none, and each thread's own.
template <class Real>
int64_t step_backward_scratch(const BackwardArgs<Real>& a, int32_t threads) noexcept {
  const int64_t records = round_up(a.steps.B * record_pitch(a.form, a.I, a.H), 64);
  return records + threads * thread_step_scratch(a, threads) +
         records_scratch(step_products<Real>(a, nullptr, 0), threads);
}

template <class Real>
void run_step_backward(const BackwardArgs<Real>& a, int64_t d, Range rows, Real* records, Real* scratch) noexcept {
  if (rows.size() == 0) return;
  if (a.form == Form::before) {
    StepBackward<Real, Form::before>(a, d, rows, records, scratch).run();
  } else if (a.form == Form::normed) {
    StepBackward<Real, Form::normed>(a, d, rows, records, scratch).run();
  } else {
    StepBackward<Real, Form::after>(a, d, rows, records, scratch).run();
  }
}

template <class Real>
void single_step_backward(const BackwardArgs<Real>& a, Real* scratch, const Team& team) noexcept {
  const Range rows = step_rows(a, team.index, team.size);
  Real* own = scratch + round_up(a.steps.B * record_pitch(a.form, a.I, a.H), 64);
  Real* rest = own + team.size * thread_step_scratch(a, team.size);
  own += team.index * thread_step_scratch(a, team.size);
  for (int64_t d = 0; d < a.D; ++d) {
    Real* records = a.records[d] ? a.records[d] : scratch;
    run_step_backward(a, d, rows, records, own);
    if (a.records[d]) continue;
    if (team.size > 1) wait_at(*team.all, team.size);
    add_records(step_products<Real>(a, records, d), rest, team);
    if (team.size > 1) wait_at(*team.all, team.size);
  }
}

}  // namespace
}  // namespace fastgru
