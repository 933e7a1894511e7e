// What single steps leave of themselves for the weights' gradients: a row for each sequence. The rows of many steps
// make one product, where each step would read and write all of the gradients.
#pragma once

#include "gate_gradients.inl"
#include "operands.inl"
#include "team.inl"

namespace fastgru {
namespace {

// A row: the gates' gradients as gate_gradients.inl has them; of Form::normed what the gains get of n, r, z and of r,
// z, q; x [I]; h as W_hh saw it [H]; of Form::before r * h, which W_hn saw.
struct RecordLayout {
  Form form;
  int64_t I, H;

  int64_t gains() const noexcept { return dgates_width(form) * H; }
  int64_t x() const noexcept { return gains() + (form == Form::normed ? 6 * H : 0); }
  int64_t h() const noexcept { return x() + I; }
  int64_t reset() const noexcept { return h() + H; }
  int64_t pitch() const noexcept { return record_pitch(form, I, H); }
};

// Rows up to which products are made straight from the rows, one line of the gradient after the other.
constexpr int64_t kFewRecords = 4;

template <class Real>
class RecordProducts {
 public:
  RecordProducts(const RecordArgs<Real>& args, const Range& units, Real* panels, Real* own) noexcept
      : a_(args), units_(units), panels_(panels), own_(own) {}

  static int64_t panel_elements(const RecordArgs<Real>& a) noexcept {
    return a.rows <= kFewRecords ? 0 : a.rows * round_up(max_of(a.I, a.H), W2);
  }
  static int64_t own_elements(const RecordArgs<Real>& a) noexcept {
    return a.rows <= kFewRecords ? 0 : a.rows * kOuterUnits;
  }

  void run() noexcept {
    const Form form = a_.form;
    const int64_t input = of_input(form), recurrent = of_recurrent(form), H = a_.H;
    const Parameters<Real>& to = a_.gradients;
    if (to.w_ih) {
      pack(at_.x(), a_.I);
      const int64_t from[3] = {input + 1, input + 2, input};
      for (int64_t gate = 0; gate < 3; ++gate) multiply(from[gate], at_.x(), a_.I, to.w_ih + gate * H * a_.I);
    }
    if (to.w_hh) {
      pack(at_.h(), H);
      for (int64_t gate = 0; gate < 3; ++gate) {
        const bool is_reset = form == Form::before && gate == 2;  // W_hn saw r * h, and n's gradient is its
        if (is_reset) pack(at_.reset(), H);
        multiply(is_reset ? 0 : recurrent + gate, is_reset ? at_.reset() : at_.h(), H, to.w_hh + gate * H * H);
      }
    }
    if (to.b_ih) sum(to.b_ih, {1, 2, 0});
    if (to.b_hh) sum(to.b_hh, {1, 2, form == Form::before ? 0 : 3});
    if (form != Form::normed) return;
    if (to.g_ih) sum(to.g_ih, {11, 12, 10});
    if (to.g_hh) sum(to.g_hh, {13, 14, 15});
  }

 private:
  static constexpr int64_t W = kLanes<Real>, W2 = 2 * W;

  void pack(int64_t column, int64_t columns) noexcept {
    if (a_.rows <= kFewRecords) return;
    for (int64_t k = 0; k < a_.rows; ++k) {
      copy_to_panels(a_.records + k * at_.pitch() + column, columns, a_.rows * W2, panels_ + k * W2);
    }
  }

  // out [H, columns] = or += rows of the gradient `which` with rows of `column`.
  void multiply(int64_t which, int64_t column, int64_t columns, Real* out) noexcept {
    const Real* gradients = a_.records + which * a_.H;
    if (a_.rows <= kFewRecords) return multiply_few<kFewRecords>(gradients, a_.records + column, columns, out);
    for (int64_t unit = units_.begin; unit < units_.end; unit += kOuterUnits) {
      const int64_t units = min_of(kOuterUnits, units_.end - unit);
      pack_units(gradients + unit, at_.pitch(), a_.rows, units, a_.rows, own_);
      add_outer_product<RealOperands<Real>>(own_, panels_, a_.rows, a_.rows, units, columns, out + unit * columns,
                                            a_.adds);
    }
  }

  template <int K>
  void multiply_few(const Real* gradients, const Real* from, int64_t columns, Real* out) noexcept {
    if constexpr (K > 1) {
      if (a_.rows < K) return multiply_few<K - 1>(gradients, from, columns, out);
    }
    for (int64_t unit = units_.begin; unit < units_.end; ++unit) {
      multiply_line<K>(gradients + unit, from, columns, out + unit * columns);
    }
  }

  template <int K>
  void multiply_line(const Real* gradients, const Real* from, int64_t columns, Real* out) noexcept {
    const int64_t pitch = at_.pitch();
    const bool adds = a_.adds;
    Vec<Real> factors[K];
    for (int k = 0; k < K; ++k) factors[k] = splat(gradients[k * pitch]);
    const auto product = [&](int64_t i, auto part) __attribute__((always_inline)) {
      constexpr bool kPart = decltype(part)::value;
      Vec<Real> sum = factors[0] * load_if<kPart>(from + i, columns - i);
#pragma GCC unroll 4
      for (int k = 1; k < K; ++k) sum += factors[k] * load_if<kPart>(from + k * pitch + i, columns - i);
      if (adds) sum += load_if<kPart>(out + i, columns - i);
      store_if<kPart>(out + i, sum, columns - i);
    };
    int64_t i = 0;
    for (; i + W <= columns; i += W) product(i, Constant<false>{});
    if (i < columns) product(i, Constant<true>{});
  }

  // which: the columns of H whose sums over all rows are those of r, z and n.
  void sum(Real* to, const int64_t (&which)[3]) noexcept {
    const int64_t H = a_.H;
    for (int64_t gate = 0; gate < 3; ++gate) {
      for (int64_t unit = units_.begin; unit < units_.end; unit += W) {
        const int64_t units = min_of(W, units_.end - unit);
        Real* out = to + gate * H + unit;
        Vec<Real> total = a_.adds ? load_lanes(out, units) : Vec<Real>{};
        const Real* from = a_.records + which[gate] * H + unit;
        for (int64_t k = 0; k < a_.rows; ++k) total += load_lanes(from + k * at_.pitch(), units);
        store_lanes(out, total, units);
      }
    }
  }

  const RecordArgs<Real>& a_;
  const RecordLayout at_{a_.form, a_.I, a_.H};
  const Range units_;
  Real *panels_, *own_;
};

// Of one thread, in whole cache lines.
template <class Real>
int64_t thread_records_scratch(const RecordArgs<Real>& a) noexcept {
  Pieces<Real> pieces(nullptr);
  pieces.take(RecordProducts<Real>::panel_elements(a));
  pieces.take(RecordProducts<Real>::own_elements(a));
  return pieces.taken();
}

template <class Real>
int64_t records_scratch(const RecordArgs<Real>& a, int32_t threads) noexcept {
  return threads * thread_records_scratch(a);
}

template <class Real>
int32_t records_threads(const RecordArgs<Real>& a, int32_t available) noexcept {
  const int64_t work = a.rows * 3 * a.H * (a.I + a.H);
  return work < 1000000 ? 1 : static_cast<int32_t>(min_of(available, divide_up(a.H, kOuterUnits)));
}

// Each thread has some of the units, and panels of its own.
template <class Real>
void add_records(const RecordArgs<Real>& a, Real* scratch, const Team& team) noexcept {
  constexpr int64_t W = kLanes<Real>;
  const Range blocks = part_of({0, divide_up(a.H, W)}, team.index, team.size);
  if (blocks.size() == 0) return;
  Pieces<Real> pieces(scratch + team.index * thread_records_scratch(a));
  Real* panels = pieces.take(RecordProducts<Real>::panel_elements(a));
  Real* own = pieces.take(RecordProducts<Real>::own_elements(a));
  RecordProducts<Real>(a, {blocks.begin * W, min_of(blocks.end * W, a.H)}, panels, own).run();
}

}  // namespace
}  // namespace fastgru
