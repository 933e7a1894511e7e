// The equations of gru.h and their derivatives as they stand, one number after the other, in double.
#include <cmath>
#include <vector>

#include "problem.h"

namespace fastgru::tests {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// v = (a - mean) / sqrt(variance + epsilon), in place; returns 1 / sqrt(variance + epsilon).
double normalise(Tensor<double>& a) {
  const auto count = static_cast<double>(a.size());
  double mean = 0, variance = 0;
  for (const double x : a) mean += x / count;
  for (const double x : a) variance += (x - mean) * (x - mean) / count;
  const double inverse = 1 / std::sqrt(variance + kNormEpsilon);
  for (double& x : a) x = (x - mean) * inverse;
  return inverse;
}

// The gradient of normalise's argument from that of its result v.
void differentiate_norm(const Tensor<double>& v, double inverse, Tensor<double>& d) {
  const auto count = static_cast<double>(d.size());
  double mean = 0, slope = 0;
  for (int64_t j = 0; j < d.size(); ++j) mean += d[j] / count, slope += d[j] * v[j] / count;
  for (int64_t j = 0; j < d.size(); ++j) d[j] = inverse * (d[j] - mean - v[j] * slope);
}

// What a step keeps for backward: the state before it; the gates; r * h; of Form::normed the norms and their factors.
struct Step {
  Tensor<double> h, r, z, n, q, reset, v_x, v_h;
  double inverse_x = 1, inverse_h = 1;
};

// One sequence of one direction.
class Sequence {
 public:
  Sequence(const Problem& p, int64_t d, int64_t b, Results<double>& out)
      : p_(p),
        w_(p.weights[d]),
        out_(out),
        gradients_(out.gradients[d]),
        d_(d),
        b_(b),
        I_(p.I),
        H_(p.H),
        length_(p.lengths[b]),
        state_((d * p.B + p.slot(b)) * p.H),
        reverse_(d == 1 || p.reverse) {}

  void run() {
    Tensor<double> h(H_), dh(H_);
    for (int64_t i = 0; i < H_ && p_.with_h0; ++i) h[i] = p_.h0[state_ + i];
    for (int64_t s = 0; s < length_; ++s) h = forward(s, h);
    for (int64_t i = 0; i < H_; ++i) out_.h_n[state_ + i] = h[i];
    for (int64_t i = 0; i < H_ && !p_.dh_n.empty(); ++i) dh[i] = p_.dh_n[state_ + i];
    for (int64_t s = length_ - 1; s >= 0 && has_cotangents(); --s) dh = cut(s, backward(s, dh));
    for (int64_t i = 0; i < H_; ++i) out_.dh0[state_ + i] = dh[i];
  }

 private:
  int64_t time(int64_t s) const { return reverse_ ? length_ - 1 - s : s; }
  int64_t row(int64_t s) const { return p_.at(time(s), b_); }
  // Of y and what is shaped like it.
  int64_t place(int64_t s) const { return (row(s) * p_.D + d_) * H_; }
  double seen(int64_t i) const { return p_.recurrent.empty() ? 1 : p_.recurrent[state_ + i]; }
  double keep(int64_t s, int64_t i) const { return p_.zoneout.empty() ? p_.keep : p_.zoneout[place(s) + i]; }
  bool has_cotangents() const { return !p_.dy.empty() || !p_.dh_n.empty(); }
  bool resets_before() const { return p_.form == Form::before; }
  bool normed() const { return p_.form == Form::normed; }

  // What parts step s from the one before it, in gru.h's bits.
  int parted(int64_t s) const {
    const int64_t t = time(s) + (reverse_ ? 1 : 0);
    return !p_.resets.empty() && t < length_ ? p_.resets[p_.at(t, b_)] : 0;
  }
  bool fresh(int64_t s) const { return (parted(s) & 2) != 0; }

  // gain * norm(a) + bias, without gain and norm where the form has none.
  void affine(Tensor<double>& a, const Tensor<double>& gain, const Tensor<double>& bias) const {
    for (int64_t j = 0; j < 3 * H_; ++j) a[j] = a[j] * (normed() ? gain[j] : 1) + (p_.bias ? bias[j] : 0);
  }

  Tensor<double> entering(const Tensor<double>& row, bool is_rounded) const {
    return p_.entering ? p_.entering(row, is_rounded) : row;
  }

  Tensor<double> forward(int64_t s, Tensor<double> h) {
    for (int64_t i = 0; i < H_ && s > 0 && !p_.states.empty(); ++i) h[i] = p_.states[place(s - 1) + i];
    for (int64_t i = 0; i < H_ && fresh(s); ++i) h[i] = p_.initial.empty() ? 0 : p_.initial[d_ * H_ + i];
    Step step;
    step.h = h;
    Tensor<double> gx(3 * H_), gh(3 * H_), x(I_), state(H_);
    for (int64_t k = 0; k < I_; ++k) x[k] = p_.x[row(s) * I_ + k];
    for (int64_t k = 0; k < H_; ++k) state[k] = h[k] * seen(k);
    x = entering(x, false), state = entering(state, false);
    for (int64_t j = 0; j < 3 * H_; ++j) {
      for (int64_t k = 0; k < I_; ++k) gx[j] += w_.w_ih[j * I_ + k] * x[k];
      for (int64_t k = 0; k < H_; ++k) gh[j] += w_.w_hh[j * H_ + k] * state[k];
    }
    if (normed()) step.inverse_x = normalise(gx), step.inverse_h = normalise(gh);
    step.v_x = gx, step.v_h = gh;
    affine(gx, w_.g_ih, w_.b_ih);
    affine(gh, w_.g_hh, w_.b_hh);
    set_gates(gx, gh, step);
    for (int64_t i = 0; i < H_; ++i) {
      const double next = (1 - step.z[i]) * step.n[i] + step.z[i] * h[i];
      h[i] += keep(s, i) * (next - h[i]);
      out_.y[place(s) + i] = h[i];
    }
    steps_.push_back(step);
    return h;
  }

  void set_gates(const Tensor<double>& gx, const Tensor<double>& gh, Step& step) const {
    step.r = step.z = step.n = step.q = step.reset = Tensor<double>(H_);
    for (int64_t i = 0; i < H_; ++i) {
      step.r[i] = sigmoid(gx[i] + gh[i]);
      step.z[i] = sigmoid(gx[H_ + i] + gh[H_ + i]);
      step.reset[i] = step.r[i] * step.h[i] * seen(i);
    }
    const Tensor<double> reset = resets_before() ? entering(step.reset, true) : step.reset;
    for (int64_t i = 0; i < H_; ++i) {
      const int64_t j = 2 * H_ + i;
      step.q[i] = gh[j];
      if (resets_before()) {
        step.q[i] = p_.bias ? w_.b_hh[j] : 0;
        for (int64_t k = 0; k < H_; ++k) step.q[i] += w_.w_hh[j * H_ + k] * reset[k];
      }
      step.n[i] = std::tanh(gx[j] + (resets_before() ? step.q[i] : step.r[i] * step.q[i]));
    }
  }

  // dh of the state before step s from that of the one after it.
  Tensor<double> backward(int64_t s, Tensor<double> dh) {
    const Step& step = steps_[static_cast<size_t>(s)];
    Tensor<double> dgx(3 * H_), dgh(3 * H_), previous(H_);
    for (int64_t i = 0; i < H_; ++i) {
      const double whole = dh[i] + (p_.dy.empty() ? 0 : p_.dy[place(s) + i]), d = whole * keep(s, i);
      const double r = step.r[i], z = step.z[i], n = step.n[i];
      const double dn = d * (1 - z) * (1 - n * n);
      dgx[i] = dgh[i] = dn * step.q[i] * r * (1 - r);
      dgx[H_ + i] = dgh[H_ + i] = d * (step.h[i] - n) * z * (1 - z);
      dgx[2 * H_ + i] = dn;
      dgh[2 * H_ + i] = resets_before() ? dn : dn * r;
      previous[i] = d * z + whole - d;
    }
    if (resets_before()) differentiate_reset(step, dgx, dgh, previous);
    differentiate_affine(step.v_x, step.inverse_x, w_.g_ih, dgx, gradients_.b_ih, gradients_.g_ih);
    differentiate_affine(step.v_h, step.inverse_h, w_.g_hh, dgh, gradients_.b_hh, gradients_.g_hh);
    differentiate_products(s, step, dgx, dgh, previous);
    return previous;
  }

  // dr, and what goes to h through r * h.
  void differentiate_reset(const Step& step, Tensor<double>& dgx, Tensor<double>& dgh, Tensor<double>& previous) const {
    for (int64_t i = 0; i < H_; ++i) {
      double through = 0;
      for (int64_t j = 2 * H_; j < 3 * H_; ++j) through += dgh[j] * w_.w_hh[j * H_ + i];
      const double r = step.r[i];
      dgx[i] = dgh[i] = through * step.h[i] * seen(i) * r * (1 - r);
      previous[i] += through * r * seen(i);
    }
  }

  void differentiate_affine(const Tensor<double>& v, double inverse, const Tensor<double>& gain, Tensor<double>& d,
                            Tensor<double>& dbias, Tensor<double>& dgain) const {
    for (int64_t j = 0; j < 3 * H_; ++j) dbias[j] += d[j];
    if (!normed()) return;
    for (int64_t j = 0; j < 3 * H_; ++j) {
      dgain[j] += d[j] * v[j];
      d[j] *= gain[j];
    }
    differentiate_norm(v, inverse, d);
  }

  void differentiate_products(int64_t s, const Step& step, const Tensor<double>& dgx, const Tensor<double>& dgh,
                              Tensor<double>& previous) {
    const int64_t x = row(s) * I_;
    for (int64_t j = 0; j < 3 * H_; ++j) {
      for (int64_t k = 0; k < I_; ++k) {
        gradients_.w_ih[j * I_ + k] += dgx[j] * p_.x[x + k];
        out_.dx[x + k] += dgx[j] * w_.w_ih[j * I_ + k];
      }
      const bool sees_reset = resets_before() && j >= 2 * H_;  // r * h, whose gradient has been passed on
      for (int64_t k = 0; k < H_; ++k) {
        gradients_.w_hh[j * H_ + k] += dgh[j] * (sees_reset ? step.reset[k] : step.h[k] * seen(k));
        if (!sees_reset) previous[k] += dgh[j] * w_.w_hh[j * H_ + k] * seen(k);
      }
    }
  }

  // What of dh goes on to the step before s.
  Tensor<double> cut(int64_t s, Tensor<double> dh) {
    if (parted(s) == 0) return dh;
    for (int64_t i = 0; i < H_ && fresh(s) && !p_.initial.empty(); ++i) out_.dinitial[d_ * H_ + i] += dh[i];
    return Tensor<double>(H_);
  }

  const Problem& p_;
  const Weights<double>& w_;
  Results<double>& out_;
  Weights<double>& gradients_;
  const int64_t d_, b_, I_, H_, length_, state_;  // state_: where it lies in h0 and what is shaped like it
  const bool reverse_;
  std::vector<Step> steps_;
};

}  // namespace

Results<double> expect(const Problem& p) {
  Results<double> out = blank(p, 0);
  for (int64_t d = 0; d < p.D; ++d) {
    for (int64_t b = 0; b < p.B; ++b) Sequence(p, d, b, out).run();
  }
  return out;
}

}  // namespace fastgru::tests
