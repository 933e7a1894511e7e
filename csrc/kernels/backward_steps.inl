// The gates' gradients step by step, and what of them goes on to the step before.
#pragma once

#include "initial_gradient.inl"
#include "layer_norm.inl"

namespace fastgru {
namespace {

template <class Operands, Form kForm>
class BackwardSteps {
  using Real = typename Operands::Real;

 public:
  BackwardSteps(const BackwardPart<Real>& part, InitialGradient<Real>& initial) noexcept
      : p_(part), initial_(initial) {}

  // The carry begins as dh_n; sequences without steps end with it.
  void begin_batch() noexcept {
    for (int64_t b = 0; b < p_.rows.count; ++b) {
      const Real* dh_n = p_.a.dh_n ? p_.state_of(p_.a.dh_n, p_.sequence(b)) : nullptr;
      const bool ends = p_.a.dh0 && p_.sequence(b) >= rows_at(p_.a.steps, 0);
      for (int64_t i = p_.panels.begin * W2; i < p_.panels.end * W2; i += W) {
        Real* to = carry(b) + i;
        if (dh_n) {
          copy_padded(to, dh_n + i, p_.a.H - i);
        } else {
          store(to, Vec<Real>{});
        }
        if (ends) write_row(p_.state_of(p_.a.dh0, p_.sequence(b)) + i, to, min_of(p_.a.H - i, W), false);
      }
    }
    previous_ = nullptr;
  }

  // dgates of step number s, to `dgates` [active, ldg]; the dh0 of sequences that end with the step before.
  void step(int64_t s, Real* dgates) noexcept {
    const int64_t n = p_.rows.below(p_.active(s)), before = p_.rows.below(p_.active(s - 1)), H = p_.a.H;
    if (before > 0) {
      const int64_t K = kForm == Form::before ? 2 * H : 3 * H;
      multiply_panels<kBackwardRows>(
          Operands::panels(p_.work.w_hh, p_.panels, H, 0, K), rows_of(previous_ + of_recurrent(kForm) * H, before, K),
          to_products(),
          [&](int64_t panel, int64_t b, int64_t m, Real* dh) { go_on(s, panel, b, m, n, dh, dgates); });
    }
    for (int64_t panel = p_.panels.begin; panel < p_.panels.end; ++panel) {
      for_tiles({before, n}, kBackwardRows,
                [&](int64_t b, int64_t m) { gates(s, panel, b, m, kZeros<Real>, 0, dgates); });
    }
    if constexpr (kForm == Form::before) finish_before(s, n, dgates);
    if constexpr (kForm == Form::normed) finish_normed(s, n, dgates);
    previous_ = dgates;
  }

 private:
  static constexpr int64_t W = kLanes<Real>, W2 = 2 * W;

  // A product after the other in one place, which is read before the next one comes.
  auto to_products() noexcept {
    return [this](int64_t, int64_t, int64_t m) { return Products<Real>{products_, m * W2}; };
  }

  Real* carry(int64_t b) const noexcept { return p_.work.carry + p_.rows.at(b) * p_.work.ldc; }

  // Of the thread's rows of dgates the first n, of K numbers each.
  auto rows_of(const Real* dgates, int64_t n, int64_t K) const noexcept {
    const Rows<Real> rows{dgates + p_.rows.first * p_.work.ldg, p_.rows.stride * p_.work.ldg, {0, n}};
    return Operands::encode(rows, K, p_.work.encoded);
  }

  // A tile's W_hh^T dgates of the step before goes into this step, or into dh0 where a sequence (from n on) ends.
  FASTGRU_INLINE void go_on(int64_t s, int64_t panel, int64_t b, int64_t m, int64_t n, Real* dh,
                            Real* dgates) noexcept {
    for (int64_t i = 0; p_.a.noise.recurrent && i < m; ++i) p_.mask(panel, p_.sequence(b + i), dh + i * W2);
    if (p_.a.resets.at.data) cut(p_.time(s - 1), panel, b, m, dh);
    const int64_t going_on = min_of(max_of(n - b, 0), m);
    if (going_on > 0) gates(s, panel, b, going_on, dh, W2, dgates);
    if (p_.a.dh0) end_rows(panel, b + going_on, b + m, dh + going_on * W2);
  }

  // dn of all units must be known before dr.
  void finish_before(int64_t s, int64_t n, Real* dgates) noexcept {
    const int64_t H = p_.a.H, t = p_.time(s);
    multiply_panels<kBackwardRows>(
        Operands::panels(p_.work.w_hh, p_.panels, H, 2 * H, H), rows_of(dgates, n, H), to_products(),
        [&](int64_t panel, int64_t b, int64_t m, const Real* dh) {
          const Range units = p_.units_of(panel);
          for (int64_t unit = units.begin; unit < units.end; unit += W) {
            differentiate_reset(gradient_tile(t, b, m, unit, dh + (unit - units.begin), W2, dgates));
          }
        });
  }

  // Through the norms of W_ih x and W_hh h.
  void finish_normed(int64_t s, int64_t n, Real* dgates) noexcept {
    const int64_t H = p_.a.H, t = p_.time(s);
    for (int64_t b = 0; b < n; ++b) {
      const Real* saved = p_.saved_of(kForm, t, p_.sequence(b));
      differentiate_norms(dgates + p_.rows.at(b) * p_.work.ldg, saved, p_.parameters, H);
    }
  }

  // What step t has of gradients for the state before it goes no further where something parts the two: where that
  // is a reset, it goes to the initial state.
  void cut(int64_t t, int64_t panel, int64_t begin, int64_t m, Real* dh) noexcept {
    for (int64_t b = begin; b < begin + m; ++b, dh += W2) {
      const uint8_t bits = p_.parted(t, p_.sequence(b));
      if (bits == 0) continue;
      for (int64_t i = 0; i < W2; i += W) {
        Real *carried = carry(b) + panel * W2 + i, *product = dh + i;
        if (initial_.wanted() && is_fresh<Real>(bits)) initial_.add(panel * W2 + i, load(carried) + load(product));
        store(carried, Vec<Real>{});
        store(product, Vec<Real>{});
      }
    }
  }

  FASTGRU_INLINE void gates(int64_t s, int64_t panel, int64_t b, int64_t m, const Real* dh, int64_t ldd,
                            Real* dgates) noexcept {
    const int64_t t = p_.time(s);
    const Range units = p_.units_of(panel);
    for (int64_t unit = units.begin; unit < units.end; unit += W) {
      const GradientTile<Real> tile = gradient_tile(t, b, m, unit, dh + (unit - units.begin), ldd, dgates);
      if constexpr (kForm == Form::before) {
        differentiate_candidate(tile);
      } else if constexpr (kForm == Form::normed) {
        differentiate_gates<Real, kForm, true>(tile);
      } else {
        is_noisy(p_.a.noise) ? differentiate_gates<Real, kForm, true>(tile)
                             : differentiate_gates<Real, kForm, false>(tile);
      }
    }
  }

  GradientTile<Real> gradient_tile(int64_t t, int64_t b, int64_t m, int64_t unit, const Real* dh, int64_t ldd,
                                   Real* dgates) const noexcept {
    GradientTile<Real> tile;
    tile.rows = m;
    tile.units = p_.a.H - unit;
    tile.H = p_.a.H;
    tile.dh = dh;
    tile.ldd = ldd;
    tile.carry = carry(b) + unit;
    tile.ldc = p_.rows.stride * p_.work.ldc;
    for (int64_t i = 0; i < m; ++i) {
      tile.dy[i] = p_.a.dy.data ? p_.output_of(p_.a.dy, t, p_.sequence(b + i)) + unit : kZeros<Real>;
      const Real* h = p_.state_before(t, p_.sequence(b + i));
      tile.h[i] = h ? h + unit : kZeros<Real>;
    }
    tile.saved = p_.saved_of(kForm, t, p_.sequence(b)) + unit;
    tile.lds = p_.rows.stride * saved_pitch(kForm, p_.a.H);
    tile.dgates = dgates + p_.rows.at(b) * p_.work.ldg + unit;
    tile.ldg = p_.rows.stride * p_.work.ldg;
    if (kForm != Form::after || is_noisy(p_.a.noise)) set_noise(tile, t, b, unit);
    if constexpr (kForm == Form::normed) set_norm(tile, p_.parameters, unit);
    return tile;
  }

  void set_noise(GradientTile<Real>& tile, int64_t t, int64_t b, int64_t unit) const noexcept {
    tile.keep = p_.a.noise.keep;
    for (int64_t i = 0; i < tile.rows; ++i) {
      const Real *zoneout = p_.zoneout_of(t, p_.sequence(b + i)), *recurrent = p_.recurrent_of(p_.sequence(b + i));
      tile.zoneout[i] = zoneout ? zoneout + unit : nullptr;
      tile.recurrent[i] = recurrent ? recurrent + unit : nullptr;
    }
  }

  void end_rows(int64_t panel, int64_t begin, int64_t end, const Real* dh) noexcept {
    for (int64_t b = begin; b < end; ++b, dh += W2) {
      const Real* carried = carry(b) + panel * W2;
      alignas(64) Real sum[W2];
      store(sum, load(carried) + load(dh));
      store(sum + W, load(carried + W) + load(dh + W));
      write_row(p_.state_of(p_.a.dh0, p_.sequence(b)) + panel * W2, sum, p_.a.H - panel * W2, false);
    }
  }

  const BackwardPart<Real>& p_;
  InitialGradient<Real>& initial_;
  const Real* previous_ = nullptr;  // dgates of the step before
  alignas(64) Real products_[kAccumulators * W];
};

}  // namespace
}  // namespace fastgru
