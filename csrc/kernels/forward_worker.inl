// Carries a thread's part of one direction through all steps.
#pragma once

#include "gates.inl"
#include "input_projection.inl"

namespace fastgru {
namespace {

// Forms but the first have one worker each, which asks at run time whether to save, and whether there is noise.
template <class Real, Form kForm, bool kSave, bool kNoise, class Weights>
class ForwardWorker {
 public:
  // state: what ForwardStates needs, of the whole group if it shares out units; the threads then wait for each other.
  ForwardWorker(const ForwardPart<Real>& part, const Weights& packed, const Group& group, bool waits, Real* state,
                Real* own) noexcept
      : p_(part),
        packed_(packed),
        group_(group),
        waits_(waits),
        states_(part, state),
        projection_(part, packed, own),
        gh_(own + Projection::elements(part.a.I, part.rows.count, part.blocks.size())),
        encoded_(gh_ + recurrent_elements(part.rows.count, part.blocks.size())) {}

  static int64_t own_elements(int64_t I, int64_t rows, int64_t blocks) noexcept {
    return Projection::elements(I, rows, blocks) + recurrent_elements(rows, blocks) +
           Weights::encoded_elements(rows, blocks * W);
  }

  void run() noexcept {
    states_.begin();
    if (waits_) wait_for(group_);
    for (int64_t s = 0; s < p_.a.steps.T;) {
      const int64_t end = projection_.project(s);
      for (int64_t row = 0; s < end; ++s) {
        const int64_t t = p_.forward_time(s);
        step(s, row);
        row += p_.active(t);
        if (waits_) wait_for(group_);
        states_.end_step(t);
      }
    }
  }

 private:
  using Projection = InputProjection<Real, kForm, Weights>;
  static constexpr int64_t W = kLanes<Real>, kRow = 3 * W;

  static int64_t recurrent_elements(int64_t rows, int64_t blocks) noexcept {
    return kForm == Form::normed ? rows * blocks * kRow : 0;
  }

  // row: of this step in gx. The first product is made even where h is zero: 0 * W_hh is NaN where W_hh is not finite.
  void step(int64_t s, int64_t row) noexcept {
    const Rows<Real> h{states_.h, states_.pitch, {0, p_.active(p_.forward_time(s))}};
    if constexpr (kForm == Form::before) {
      step_before(s, row, h);
    } else if constexpr (kForm == Form::normed) {
      step_normed(s, row, h);
    } else {
      step_after(s, row, h);
    }
  }

  void step_after(int64_t s, int64_t row, const Rows<Real>& h) noexcept {
    alignas(64) Real products[kAccumulators * W];
    const auto to = [&](int64_t, int64_t, int64_t m) { return Products<Real>{products, m * kRow}; };
    const auto finish = [&](int64_t block, int64_t b, int64_t m, const Real* gh) {
      const Real* gx = projection_.at(block - p_.blocks.begin, row + b);
      apply_all_gates(s, block, b, m, gx, gh);
    };
    const auto seen = packed_.encode(h, p_.a.H, encoded_);
    multiply_panels<Weights::kRows>(packed_.states(p_.blocks, true), seen, to, finish);
  }

  // The norm takes its mean from all units.
  void step_normed(int64_t s, int64_t row, const Rows<Real>& h) noexcept {
    const int64_t t = p_.forward_time(s), pitch = p_.rows.count * kRow, H = p_.a.H;
    const auto gh = [&](int64_t block, int64_t b) { return gh_ + block * pitch + b * kRow; };
    const auto to = [&](int64_t block, int64_t b, int64_t) { return Products<Real>{gh(block, b), pitch}; };
    multiply_panels<Weights::kRows>(packed_.states(p_.blocks, false), packed_.encode(h, H, encoded_), to,
                                    [](int64_t, int64_t, int64_t, Real*) {});
    for (int64_t b = 0; b < h.range.end; ++b) {
      Real* saved = p_.a.saved ? p_.saved_of(kForm, t, p_.rows.at(b)) : nullptr;
      normalise(gh(0, b), pitch, packed_.g_hh, packed_.b_hh, H, saved ? saved + 3 * H : nullptr,
                saved ? saved + 6 * H + 1 : nullptr);
    }
    for (int64_t block = 0; block < p_.blocks.end; ++block) {
      for_tiles(h.range, kForwardRows, [&](int64_t b, int64_t m) {
        apply_all_gates(s, block, b, m, projection_.at(block, row + b), gh(block, b));
      });
    }
  }

  // r of all units must be known before the product with W_hn.
  void step_before(int64_t s, int64_t row, const Rows<Real>& h) noexcept {
    const int64_t t = p_.forward_time(s), H = p_.a.H;
    alignas(64) Real products[kAccumulators * W], keep[W];
    const auto tile = [&](int64_t block, int64_t b, int64_t m, const Real* gh) {
      return gate_tile(t, block, b, m, projection_.at(block, row + b), gh, keep);
    };
    const auto seen = packed_.encode(h, H, encoded_);
    const auto to = [&](int64_t, int64_t, int64_t m) { return Products<Real>{products, m * 2 * W}; };
    const auto apply = [&](int64_t block, int64_t b, int64_t m, const Real* gh) {
      apply_reset(tile(block, b, m, gh), projection_.at(block, row + b), gh);
    };
    multiply_panels<Weights::kRows>(packed_.first_gates(p_.blocks), seen, to, apply);
    const auto reset = packed_.encode(Rows<Real>{states_.reset, states_.pitch, h.range}, H, encoded_);
    const auto to_candidate = [&](int64_t, int64_t, int64_t m) { return Products<Real>{products, m * W}; };
    const auto finish = [&](int64_t block, int64_t b, int64_t m, const Real* gh) {
      apply_candidate(tile(block, b, m, gh));
      states_.refresh_after(s, block, b, m);
    };
    multiply_panels<Weights::kRows>(packed_.candidates(p_.blocks), reset, to_candidate, finish);
  }

  void apply_all_gates(int64_t s, int64_t block, int64_t b, int64_t m, const Real* gx, const Real* gh) noexcept {
    alignas(64) Real keep[W];
    const GateTile<Real> tile = gate_tile(p_.forward_time(s), block, b, m, gx, gh, keep);
    apply_gates<Real, kSave && kForm == Form::after, kNoise>(tile);
    states_.refresh_after(s, block, b, m);
  }

  // keep: room for a vector.
  GateTile<Real> gate_tile(int64_t t, int64_t block, int64_t b, int64_t m, const Real* gx, const Real* gh,
                           Real* keep) noexcept {
    const int64_t unit = block * W, at = b * states_.pitch + unit;
    GateTile<Real> tile;
    tile.rows = m;
    tile.units = p_.a.H - unit;
    tile.gx = gx;
    tile.gh = gh;
    tile.h = states_.h + at;
    tile.h_next = states_.next + at;
    tile.ldh = states_.pitch;
    tile.H = p_.a.H;
    for (int64_t i = 0; i < m; ++i) tile.y[i] = p_.output_of(p_.a.y, t, p_.rows.at(b + i)) + unit;
    if constexpr (kSave) {
      tile.saved = kForm == Form::after || p_.a.saved ? p_.saved_of(kForm, t, p_.rows.at(b)) + unit : nullptr;
      tile.lds = p_.rows.stride * saved_pitch(kForm, p_.a.H);
    }
    if constexpr (kNoise) set_noise(tile, t, unit, b, keep);
    if constexpr (kForm == Form::before) {
      tile.seen = states_.h + at;
      tile.reset = states_.reset + at;
    }
    return tile;
  }

  void set_noise(GateTile<Real>& tile, int64_t t, int64_t unit, int64_t b, Real* keep) noexcept {
    tile.h = tile.carried = states_.carried + b * states_.pitch + unit;
    store(keep, splat(p_.a.noise.keep));
    tile.keep = keep;
    for (int64_t i = 0; i < tile.rows; ++i) {
      const Real *recurrent = p_.recurrent_of(p_.rows.at(b + i)), *zoneout = p_.zoneout_of(t, p_.rows.at(b + i));
      tile.recurrent[i] = recurrent ? recurrent + unit : nullptr;
      tile.zoneout[i] = zoneout ? zoneout + unit : nullptr;
    }
  }

  const ForwardPart<Real>& p_;
  const Weights& packed_;
  const Group& group_;
  const bool waits_;
  ForwardStates<Real, kNoise> states_;
  Projection projection_;
  Real* gh_;       // [blocks][rows][3][kLanes], of Form::normed
  Real* encoded_;  // the states as the weights are multiplied with them
};

}  // namespace
}  // namespace fastgru
