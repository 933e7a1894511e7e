// A single step of a few sequences: straight from the weights as they lie in memory. They are read once either way, and
// packing, or asking whether a packed copy is still true, would cost as much again as the step.
#pragma once

#include "forward_states.inl"
#include "gates.inl"
#include "layer_norm.inl"
#include "step_products.inl"

namespace fastgru {
namespace {

// Sequences up to which that pays in inference, where packed weights are there from earlier calls; in training, where
// they would be made anew in each, it is kTrainedStepRows.
constexpr int64_t kStepRows = 2;

template <class Args>
bool has_single_step(const Args& a) noexcept {
  return a.steps.T == 1 && !a.steps.rows && !a.resets.at.data;
}

template <class Real>
bool is_single_step(const ForwardArgs<Real>& a) noexcept {
  return has_single_step(a) && !a.trusted && a.steps.B <= (a.saved ? kTrainedStepRows : kStepRows);
}

// Sequences that a thread of a step must have, where there is enough to do for more than one.
constexpr int64_t kThreadSequences = 16;

// For so many products of numbers, of B sequences.
inline int32_t step_threads(int64_t B, int64_t products, int32_t available) noexcept {
  return products < 400000 ? 1 : static_cast<int32_t>(min_of(available, divide_up(B, kThreadSequences)));
}

template <class Args>
int32_t step_threads(const Args& a, int32_t available) noexcept {
  return step_threads(a.steps.B, a.steps.B * a.D * 3 * a.H * (a.I + a.H), available);
}

// The sequences of a team's thread.
template <class Args>
Range step_rows(const Args& a, int64_t index, int64_t size) noexcept {
  return part_of({0, a.steps.B}, index, size);
}

// One direction of a step, of some of its sequences. What belongs to one lies in blocks of kLanes units.
template <class Real, Form kForm>
class StepForward : Direction<ForwardArgs<Real>> {
 public:
  StepForward(const ForwardArgs<Real>& args, int64_t direction, Range rows, Real* scratch) noexcept
      : Direction<ForwardArgs<Real>>(args, direction),
        p_(args.parameters[direction]),
        rows_(rows),
        scratch_(scratch),
        products_(args.H, rows, of_sequence(args.H), args.batch_invariant, scratch + elements(rows.size(), args.H)) {}

  static int64_t elements(int64_t B, int64_t H) noexcept {
    return B * of_sequence(H) + (kForm == Form::normed ? 4 * 3 * round_up(H, W) : 0);
  }

  void run() noexcept {
    const int64_t H = this->a.H;
    for (int64_t b = rows_.begin; b < rows_.end; ++b) begin(b);
    constexpr bool normed = kForm == Form::normed, before = kForm == Form::before;
    const auto x = [&](int64_t b) { return row_of(this->a.x, this->a.steps, 0, b); };
    const auto start_x = [&](int64_t gate, int64_t unit, int64_t units) {
      return normed ? Vec<Real>{} : input_bias(gate, unit, units);
    };
    products_.template multiply<3>(p_.w_ih, this->a.I, normed ? nullptr : p_.b_ih, start_x, x, gx(rows_.begin));
    const auto h = [&](int64_t b) { return seen(b); };
    const auto start_h = [&](int64_t gate, int64_t unit, int64_t units) {
      return normed ? Vec<Real>{} : state_bias(gate, unit, units);
    };
    products_.template multiply<before ? 2 : 3>(p_.w_hh, H, normed ? nullptr : p_.b_hh, start_h, h, gh(rows_.begin));
    if constexpr (kForm == Form::normed) pack_norms();
    for (int64_t b = rows_.begin; b < rows_.end; ++b) {
      if constexpr (kForm == Form::normed) norm(b);
      for_blocks([&](int64_t block, int64_t count, int64_t units) {
        if constexpr (kForm == Form::before) {
          apply_reset(tile(b, block, count, units), gx(b) + block * 3 * W, gh(b) + block * 2 * W);
        } else {
          apply(tile(b, block, count, units));
        }
      });
    }
    if constexpr (kForm == Form::before) finish_before();
    for (int64_t b = rows_.begin; b < rows_.end; ++b) write_output(b);
  }

 private:
  static constexpr int64_t W = kLanes<Real>;

  static int64_t of_sequence(int64_t H) noexcept { return 4 * state_pitch<Real>(H) + 6 * round_up(H, W); }

  Real* state(int64_t b) const noexcept { return scratch_ + (b - rows_.begin) * of_sequence(this->a.H); }
  Real* seen(int64_t b) const noexcept { return state(b) + state_pitch<Real>(this->a.H); }  // by W_hh
  Real* next(int64_t b) const noexcept { return seen(b) + state_pitch<Real>(this->a.H); }
  Real* reset(int64_t b) const noexcept { return next(b) + state_pitch<Real>(this->a.H); }  // r * seen
  Real* gx(int64_t b) const noexcept { return reset(b) + state_pitch<Real>(this->a.H); }
  Real* gh(int64_t b) const noexcept { return gx(b) + 3 * round_up(this->a.H, W); }
  Real* norms(int64_t which) const noexcept {  // g_ih b_ih g_hh b_hh, [blocks][3][W]
    return scratch_ + rows_.size() * of_sequence(this->a.H) + which * 3 * round_up(this->a.H, W);
  }
  Real* saved(int64_t b) const noexcept { return this->a.saved ? this->saved_of(kForm, 0, b) : nullptr; }

  // Zeros too are multiplied, so that a NaN in W_hh shows: a step without h0 costs what one with it does.
  void begin(int64_t b) noexcept {
    const int64_t H = this->a.H;
    const Real *h0 = this->a.h0 ? this->state_of(this->a.h0, b) : nullptr, *recurrent = this->recurrent_of(b);
    for (int64_t i = 0; i < H; i += W) {
      const Vec<Real> h = !h0 ? Vec<Real>{} : H - i >= W ? load(h0 + i) : load_lanes(h0 + i, H - i);
      store(state(b) + i, h);
      store(seen(b) + i, recurrent ? h * load_lanes(recurrent + i, min_of(H - i, W)) : h);
    }
  }

  // A block's numbers of a [3H] vector, or zero where there is none.
  Vec<Real> lanes_of(const Real* from, int64_t gate, int64_t unit, int64_t units) const noexcept {
    return from ? load_lanes(from + gate * this->a.H + unit, units) : Vec<Real>{};
  }

  // Biases as pack_blocks has them, so that they are added in the same order.
  static constexpr bool is_apart(int64_t gate) noexcept { return gate == 2 && kForm != Form::before; }
  Vec<Real> input_bias(int64_t gate, int64_t unit, int64_t units) const noexcept {
    const Vec<Real> b_ih = lanes_of(p_.b_ih, gate, unit, units);
    return is_apart(gate) ? b_ih : b_ih + lanes_of(p_.b_hh, gate, unit, units);
  }
  Vec<Real> state_bias(int64_t gate, int64_t unit, int64_t units) const noexcept {
    return is_apart(gate) ? lanes_of(p_.b_hh, gate, unit, units) : Vec<Real>{};
  }

  // Blocks of units as the rows of a tile: one after the other they would take as long as their chain of operations.
  template <class F>
  void for_blocks(F f) const noexcept {
    const int64_t H = this->a.H, whole = H / W;
    for_tiles({0, whole}, kForwardRows, [&](int64_t block, int64_t count) { f(block, count, W); });
    if (whole * W < H) f(whole, 1, H - whole * W);
  }

  GateTile<Real> tile(int64_t b, int64_t block, int64_t count, int64_t units) noexcept {
    const int64_t at = block * W;
    GateTile<Real> tile;
    tile.rows = count;
    tile.units = units;
    tile.gx = gx(b) + 3 * at;
    tile.gh = gh(b) + (kForm == Form::before ? at : 3 * at);
    tile.h = state(b) + at;
    tile.h_next = tile.carried = next(b) + at;
    tile.ldh = W;
    tile.saved = saved(b) ? saved(b) + at : nullptr;
    tile.lds = W;
    tile.H = this->a.H;
    store(keep_, splat(this->a.noise.keep));
    tile.keep = keep_;
    const Real* zoneout = this->zoneout_of(0, b);
    for (int64_t i = 0; i < count; ++i) {
      tile.y[i] = this->state_of(this->a.h_n, b) + at + i * W;
      tile.zoneout[i] = zoneout ? zoneout + at + i * W : nullptr;
      tile.recurrent[i] = nullptr;  // nobody sees the next state here
    }
    tile.seen = seen(b) + at;
    tile.reset = reset(b) + at;
    return tile;
  }

  void apply(const GateTile<Real>& tile) noexcept {
    const bool noisy = kForm == Form::normed || is_noisy(this->a.noise);  // as the pass over many steps
    if (kForm == Form::after && tile.saved) {
      noisy ? apply_gates<Real, true, true>(tile) : apply_gates<Real, true, false>(tile);
    } else {
      noisy ? apply_gates<Real, false, true>(tile) : apply_gates<Real, false, false>(tile);
    }
  }

  // r of all units must be known before the product with W_hn.
  void finish_before() noexcept {
    const int64_t H = this->a.H;
    const auto from = [&](int64_t b) { return reset(b); };
    const auto start = [](int64_t, int64_t, int64_t) { return Vec<Real>{}; };
    const Real* bias = p_.b_hh ? p_.b_hh + 2 * H : nullptr;
    products_.template multiply<1>(p_.w_hh + 2 * H * H, H, bias, start, from, gh(rows_.begin));
    for (int64_t b = rows_.begin; b < rows_.end; ++b) {
      for_blocks([&](int64_t block, int64_t count, int64_t units) { apply_candidate(tile(b, block, count, units)); });
    }
  }

  void pack_norms() noexcept {
    const int64_t H = this->a.H;
    for (int64_t gate = 0; gate < 3; ++gate) {
      for (int64_t unit = 0; unit < H; unit += W) {
        const int64_t units = min_of(W, H - unit), at = 3 * unit + gate * W;
        store(norms(0) + at, lanes_of(p_.g_ih, gate, unit, units));
        store(norms(1) + at, input_bias(gate, unit, units));
        store(norms(2) + at, lanes_of(p_.g_hh, gate, unit, units));
        store(norms(3) + at, state_bias(gate, unit, units));
      }
    }
  }

  void norm(int64_t b) noexcept {
    const int64_t H = this->a.H;
    Real* to = saved(b);
    normalise(gx(b), 3 * W, norms(0), norms(1), H, to, to ? to + 6 * H : nullptr);
    normalise(gh(b), 3 * W, norms(2), norms(3), H, to ? to + 3 * H : nullptr, to ? to + 6 * H + 1 : nullptr);
  }

  void write_output(int64_t b) noexcept {
    if (!this->a.y.data) return;
    const auto bytes = static_cast<uint64_t>(this->a.H) * sizeof(Real);
    __builtin_memcpy(this->output_of(this->a.y, 0, b), this->state_of(this->a.h_n, b), bytes);
  }

  const Parameters<const Real>& p_;
  const Range rows_;
  Real* scratch_;
  const StepProducts<Real> products_;
  alignas(64) Real keep_[W];
};

// Of one thread, in whole cache lines.
template <class Real>
int64_t step_scratch(const ForwardArgs<Real>& a, int64_t threads) noexcept {
  using Largest = StepForward<Real, Form::normed>;
  const int64_t rows = divide_up(a.steps.B, threads);
  return round_up(Largest::elements(rows, a.H) + StepProducts<Real>::elements(rows, max_of(a.I, a.H)), 64);
}

template <class Real>
void single_step(const ForwardArgs<Real>& a, Real* scratch, const Team& team) noexcept {
  const Range rows = step_rows(a, team.index, team.size);
  scratch += team.index * step_scratch(a, team.size);
  for (int64_t d = 0; rows.size() > 0 && d < a.D; ++d) {
    if (a.form == Form::before) {
      StepForward<Real, Form::before>(a, d, rows, scratch).run();
    } else if (a.form == Form::normed) {
      StepForward<Real, Form::normed>(a, d, rows, scratch).run();
    } else {
      StepForward<Real, Form::after>(a, d, rows, scratch).run();
    }
  }
}

}  // namespace
}  // namespace fastgru
