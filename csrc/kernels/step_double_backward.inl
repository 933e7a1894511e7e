// Second derivatives of a single step: of Form::after, without noise.
//
// The gradients that the backward pass gives are J^T c: J the Jacobian of h' by the leaves, c its cotangent. With v the
// cotangents of these gradients, S = <v, J^T c> = <J v, c> is differentiated: by c, which gives the tangent J v, and by
// the leaves, back through that tangent. d is for tangents, `by` for cotangents:
//
//     dgx = W_ih v_x + V_ih x + v_b_ih      dgh = W_hh v_h + V_hh h + v_b_hh
//     by x = W_ih^T by_gx + V_ih^T by_dgx   by W_ih = by_gx x^T + by_dgx v_x^T   by b_ih = by_gx
//     by h = W_hh^T by_gh + V_hh^T by_dgh + dz * c, and so on
//
// What lies between is of each unit alone: `differentiate_unit` has it. src/fastgru/ops/second_order.py has the same of
// many steps, of torch's operators.
#pragma once

#include "step.inl"
#include "step_backward.inl"

namespace fastgru {
namespace {

// What a unit's second derivatives depend on; W_ih x and W_hh h have the tangents x[gate] and h[gate].
template <class Real>
struct UnitTangents {
  Vec<Real> r, z, n, q, h, dh, c;
  Vec<Real> x[3], recurrent[3];
};

// by_x, by_recurrent: the cotangents of W_ih x and W_hh h, rows r, z, n; of_x, of_recurrent: those of their tangents.
// Of r and z those of x and h are one.
template <class Real>
struct UnitCotangents {
  Vec<Real> dh_next, by_h;  // the tangent of h'; what h has beside W_hh
  Vec<Real> by_r, by_z, by_n, by_q;
  Vec<Real> of_r, of_z, of_n, of_q;
};

template <class Real>
FASTGRU_INLINE UnitCotangents<Real> differentiate_unit(const UnitTangents<Real>& u) noexcept {
  const Vec<Real> slope_r = u.r - u.r * u.r, slope_z = u.z - u.z * u.z, slope_n = Real(1) - u.n * u.n;
  // The derivatives of h' by n before its tanh, by q, and by r and z before and after their sigmoids.
  const Vec<Real> k_n = slope_n - u.z * slope_n, k_q = k_n * u.r;
  const Vec<Real> after_r = k_n * u.q, after_z = u.h - u.n, k_r = slope_r * after_r, k_z = slope_z * after_z;
  const Vec<Real> dg_r = u.x[0] + u.recurrent[0], dg_z = u.x[1] + u.recurrent[1], dq = u.recurrent[2];
  const Vec<Real> dr = slope_r * dg_r, dz = slope_z * dg_z, d_in_tanh = u.x[2] + dr * u.q + u.r * dq;
  const Vec<Real> by_in_tanh = k_n * u.c;
  UnitCotangents<Real> to;
  to.dh_next = u.z * u.dh + k_r * dg_r + k_z * dg_z + k_n * u.x[2] + k_q * dq;
  to.by_h = dz * u.c;
  to.by_n = -u.c * ((k_n + k_n) * u.n * d_in_tanh + slope_n * dz);
  const Vec<Real> by_r = u.q * to.by_n + dq * by_in_tanh, by_z = u.c * (u.dh - slope_n * d_in_tanh);
  to.by_r = (Real(1) - u.r - u.r) * dr * after_r * u.c + slope_r * by_r;
  to.by_z = (Real(1) - u.z - u.z) * dz * after_z * u.c + slope_z * by_z;
  to.by_q = dr * by_in_tanh + u.r * to.by_n;
  to.of_r = k_r * u.c;
  to.of_z = k_z * u.c;
  to.of_n = by_in_tanh;
  to.of_q = k_q * u.c;
  return to;
}

// One direction of a step, of some of its sequences. Each leaves two rows of records: what goes with x and h, and, B
// rows further, what goes with v_x and v_h.
template <class Real>
class StepDoubleBackward {
 public:
  // records: of all sequences; scratch: of this thread.
  StepDoubleBackward(const DoubleBackwardArgs<Real>& args, int64_t direction, Range rows, Real* records,
                     Real* scratch) noexcept
      : a(args),
        d_(direction),
        rows_(rows),
        records_(records),
        memory_(scratch),
        tangents_(memory_.take(rows.size() * pitch_)),
        sums_(memory_.take(RowSums<Real>::kElements)),
        products_(args.H, rows, pitch_, false, memory_.take(panel_elements(args, rows.size()))) {}

  static int64_t elements(const DoubleBackwardArgs<Real>& a, int64_t rows) noexcept {
    Pieces<Real> pieces(nullptr);
    pieces.take(rows * 4 * tangents_size(a.H));
    pieces.take(RowSums<Real>::kElements);
    pieces.take(panel_elements(a, rows));
    return pieces.taken();
  }

  void run() noexcept {
    for (int64_t b = rows_.begin; b < rows_.end; ++b) begin(b);
    if (a.v_x) multiply(p_.w_ih, true, at_.x(), a.I, 0);
    if (v_.w_ih) multiply(v_.w_ih, false, at_.x(), a.I, 1);
    if (a.v_h0) multiply(p_.w_hh, true, at_.h(), a.H, 2);
    if (v_.w_hh) multiply(v_.w_hh, false, at_.h(), a.H, 3);
    for (int64_t b = rows_.begin; b < rows_.end; ++b) {
      int64_t unit = 0;
      for (; unit + W <= a.H; unit += W) differentiate<false>(b, unit);
      if (unit < a.H) differentiate<true>(b, unit);
    }
    if (a.dx) write_dx();
    if (a.dh0) add_to_dh0();
  }

 private:
  static constexpr int64_t W = kLanes<Real>;

  // Of the tangents of one sequence: blocks [3][kLanes] of a product.
  static int64_t tangents_size(int64_t H) noexcept { return 3 * round_up(H, W); }
  static int64_t panel_elements(const DoubleBackwardArgs<Real>& a, int64_t rows) noexcept {
    return StepProducts<Real>::elements(rows, max_of(a.I, a.H));
  }

  Real* record(int64_t b, bool of_tangents) const noexcept {
    return records_ + (of_tangents ? a.B + b : b) * at_.pitch();
  }
  Real* tangents(int64_t b, int64_t which) const noexcept {
    return tangents_ + (b - rows_.begin) * pitch_ + which * tangents_size(a.H);
  }
  // [H] of sequence b in what has one state for each direction.
  template <class T>
  T* state_of(T* states, int64_t b) const noexcept {
    return states ? states + (d_ * a.B + b) * a.H : nullptr;
  }
  template <class T>
  T* output_of(T* outputs, int64_t b) const noexcept {
    return outputs ? outputs + (b * a.D + d_) * a.H : nullptr;
  }

  // The records have what entered the step, and its tangents.
  void begin(int64_t b) noexcept {
    const auto copy = [](Real* to, const Real* from, int64_t n) {
      const auto bytes = static_cast<uint64_t>(n) * sizeof(Real);
      from ? __builtin_memcpy(to, from, bytes) : __builtin_memset(to, 0, bytes);
    };
    copy(record(b, false) + at_.x(), a.x + b * a.I, a.I);
    copy(record(b, false) + at_.h(), state_of(a.h0, b), a.H);
    copy(record(b, true) + at_.x(), a.v_x ? a.v_x + b * a.I : nullptr, a.I);
    copy(record(b, true) + at_.h(), state_of(a.v_h0, b), a.H);
  }

  // Number `which` of the products that make the tangents: with K columns of the records.
  void multiply(const Real* w, bool of_tangents, int64_t column, int64_t K, int64_t which) noexcept {
    const auto start = [](int64_t, int64_t, int64_t) { return Vec<Real>{}; };
    const auto from = [&](int64_t b) -> const Real* { return record(b, of_tangents) + column; };
    products_.template multiply<3>(w, K, nullptr, start, from, tangents(rows_.begin, which));
  }

  template <bool kPart>
  [[gnu::noinline]] void differentiate(int64_t b, int64_t unit) noexcept {
    const int64_t H = a.H, units = H - unit;
    const auto get = [&](const Real* from) __attribute__((always_inline)) {
      return from ? load_if<kPart>(from + unit, units) : Vec<Real>{};
    };
    const auto put = [&](Real* to, Vec<Real> v) __attribute__((always_inline)) {
      if (to) store_if<kPart>(to + unit, v, units);
    };
    const Real* saved = a.saved + (d_ * a.B + b) * saved_pitch(Form::after, H);
    UnitTangents<Real> u;
    u.r = get(saved);
    u.z = get(saved + H);
    u.n = get(saved + 2 * H);
    u.q = get(saved + 3 * H);
    u.h = get(state_of(a.h0, b));
    u.dh = get(state_of(a.v_h0, b));
    u.c = get(output_of(a.dy, b)) + get(state_of(a.dh_n, b));
    for (int64_t gate = 0; gate < 3; ++gate) {
      const int64_t at = 3 * unit + gate * W;
      const auto product = [&](const Real* there, int64_t which) __attribute__((always_inline)) {
        return there ? load(tangents(b, which) + at) : Vec<Real>{};
      };
      u.x[gate] = product(a.v_x, 0) + product(v_.w_ih, 1) + get(v_.b_ih ? v_.b_ih + gate * H : nullptr);
      u.recurrent[gate] = product(a.v_h0, 2) + product(v_.w_hh, 3) + get(v_.b_hh ? v_.b_hh + gate * H : nullptr);
    }
    const UnitCotangents<Real> to = differentiate_unit<Real>(u);
    put(output_of(a.ddy, b), to.dh_next);
    put(state_of(a.ddh_n, b), to.dh_next);
    put(state_of(a.dh0, b), to.by_h);
    const Vec<Real> first[4] = {to.by_n, to.by_r, to.by_z, to.by_q}, second[4] = {to.of_n, to.of_r, to.of_z, to.of_q};
    for (int64_t i = 0; i < 4; ++i) {
      put(record(b, false) + i * H, first[i]);
      put(record(b, true) + i * H, second[i]);
    }
  }

  // Columns of H from `which` on, of all of the thread's sequences.
  Rows<Real> gradients(bool of_tangents, int64_t which) const noexcept {
    return {record(rows_.begin, of_tangents) + which * a.H, at_.pitch(), {0, rows_.size()}};
  }

  // The second direction adds to what the first wrote.
  void write_dx() noexcept {
    Real* to = a.dx + rows_.begin * a.I;
    if (d_ == 0) __builtin_memset(to, 0, static_cast<uint64_t>(rows_.size() * a.I) * sizeof(Real));
    const auto add = [&](const Real* w, bool of_tangents) {
      if (!w) return;
      sums_.add(gradients(of_tangents, of_input(Form::after) + 1), w, 2 * a.H, a.I, to, a.I);
      sums_.add(gradients(of_tangents, of_input(Form::after)), w + 2 * a.H * a.I, a.H, a.I, to, a.I);
    };
    add(p_.w_ih, false);
    add(v_.w_ih, true);
  }

  void add_to_dh0() noexcept {
    Real* to = state_of(a.dh0, rows_.begin);
    sums_.add(gradients(false, of_recurrent(Form::after)), p_.w_hh, 3 * a.H, a.H, to, a.H);
    if (v_.w_hh) sums_.add(gradients(true, of_recurrent(Form::after)), v_.w_hh, 3 * a.H, a.H, to, a.H);
  }

  const DoubleBackwardArgs<Real>& a;
  const int64_t d_;
  const Range rows_;
  const Parameters<const Real>&p_ = a.parameters[d_], &v_ = a.v[d_];
  const RecordLayout at_{Form::after, a.I, a.H};
  Real* records_;
  Pieces<Real> memory_;
  const int64_t pitch_ = 4 * tangents_size(a.H);  // of a sequence's tangents
  Real* tangents_;
  RowSums<Real> sums_;
  const StepProducts<Real> products_;
};

// The products that make the weights' gradients: of B rows of records, or of twice as many.
template <class Real>
struct SecondProducts {
  RecordArgs<Real> once, twice;

  SecondProducts(const DoubleBackwardArgs<Real>& a, const Real* records, int64_t d) noexcept
      : once{a.I, a.H, a.B, Form::after, records, a.gradients[d], false},
        twice{a.I, a.H, 2 * a.B, Form::after, records, {}, false} {
    if (a.v_x) twice.gradients.w_ih = a.gradients[d].w_ih, once.gradients.w_ih = nullptr;
    if (a.v_h0) twice.gradients.w_hh = a.gradients[d].w_hh, once.gradients.w_hh = nullptr;
  }
};

template <class Real>
int64_t double_backward_records(const DoubleBackwardArgs<Real>& a) noexcept {
  return round_up(2 * a.B * record_pitch(Form::after, a.I, a.H), 64);
}

template <class Real>
int64_t thread_double_backward(const DoubleBackwardArgs<Real>& a, int64_t threads) noexcept {
  return StepDoubleBackward<Real>::elements(a, divide_up(a.B, threads));
}

// Records of one direction at a time, each thread's own, and what the products of the records need.
template <class Real>
int64_t double_backward_scratch(const DoubleBackwardArgs<Real>& a, int32_t threads) noexcept {
  const SecondProducts<Real> products(a, nullptr, 0);
  return double_backward_records(a) + threads * thread_double_backward(a, threads) +
         records_scratch(products.once, threads) + records_scratch(products.twice, threads);
}

template <class Real>
int32_t double_backward_threads(const DoubleBackwardArgs<Real>& a, int32_t available) noexcept {
  return step_threads(a.B, 2 * a.B * a.D * 3 * a.H * (a.I + a.H), available);
}

template <class Real>
void double_backward(const DoubleBackwardArgs<Real>& a, Real* scratch, const Team& team) noexcept {
  const Range rows = part_of({0, a.B}, team.index, team.size);
  Real *records = scratch, *own = scratch + double_backward_records(a);
  Real* rest = own + team.size * thread_double_backward(a, team.size);
  own += team.index * thread_double_backward(a, team.size);
  for (int64_t d = 0; d < a.D; ++d) {
    if (rows.size() > 0) StepDoubleBackward<Real>(a, d, rows, records, own).run();
    if (team.size > 1) wait_at(*team.all, team.size);
    const SecondProducts<Real> products(a, records, d);
    add_records(products.once, rest, team);
    add_records(products.twice, rest + records_scratch(products.once, team.size), team);
    if (team.size > 1) wait_at(*team.all, team.size);
  }
}

}  // namespace
}  // namespace fastgru
