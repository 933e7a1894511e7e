// Random layers on every instruction set of this machine against a plain loop in double. Every tensor is a
// heap block of exactly its size, and outputs are NaN before, so that a sanitizer, or the comparison, sees a
// read or a write too many or too few. Prints the first difference and returns 1.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "dispatch.h"
#include "gru.h"
#include "packed_cache.h"
#include "threads.h"

namespace {

using fastgru::BackwardArgs;
using fastgru::Form;
using fastgru::ForwardArgs;
using fastgru::Kernels;
using fastgru::Team;

template <class Real>
using Tensor = std::vector<Real>;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// A layer, its input and its cotangents in double; lengths do not grow.
struct Problem {
  int64_t I, H, D, T, B;
  fastgru::Form form;
  bool bias, packed, joined, ordered, with_h0;  // joined: sequences one after the other
  bool reverse;
  std::vector<int64_t> lengths, rows, first, order, begin;
  std::vector<uint8_t> resets;  // empty: none; 2 and 0x82 for resets, 0x80 for the gradient's end
  Tensor<double> w_ih[2], w_hh[2], b_ih[2], b_hh[2], g_ih[2], g_hh[2], x, h0, initial, recurrent, zoneout, dy, dh_n;
  double keep = 1;

  bool compact() const { return packed || joined; }
  int64_t steps_in_memory() const { return compact() ? total_rows() : T * B; }
  int64_t total_rows() const {
    int64_t n = 0;
    for (int64_t r : rows) n += r;
    return n;
  }
  // Row of (t, b) in x, y and their gradients.
  int64_t at(int64_t t, int64_t b) const {
    if (packed) return first[static_cast<size_t>(t)] + b;
    return joined ? t + begin[static_cast<size_t>(b)] : t * B + slot(b);
  }
  int64_t slot(int64_t b) const { return ordered ? order[static_cast<size_t>(b)] : b; }
};

struct Results {
  Tensor<double> y, h_n, dx, dh0, dinitial, dw_ih[2], dw_hh[2], db_ih[2], db_hh[2], dg_ih[2], dg_hh[2];
};

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int64_t below(int64_t n) { return static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }
  bool flip() { return below(2) == 1; }
  // Numbers that float holds exactly.
  Tensor<double> tensor(int64_t n, double scale) {
    Tensor<double> out(static_cast<size_t>(n));
    std::normal_distribution<float> normal;
    for (double& v : out) v = static_cast<double>(static_cast<float>(scale) * normal(engine_));
    return out;
  }

 private:
  std::mt19937 engine_;
};

Problem draw(Random& random) {
  const int64_t sizes[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 40, 65};
  Problem p{};
  p.I = sizes[random.below(13)];
  p.H = sizes[random.below(13)];
  p.D = 1 + random.below(2);
  p.reverse = p.D == 1 && random.below(3) == 0;
  p.T = 1 + random.below(random.flip() ? 3 : 12);
  p.B = random.below(12) == 0 ? 270 : 1 + random.below(20);
  p.bias = random.flip();
  const Form forms[] = {Form::after, Form::after, Form::before, Form::normed};
  p.form = forms[random.below(4)];
  // A norm of few numbers, or of multiples of one column, has gradients that are nothing but cancellation.
  if (p.form == Form::normed) p.I = std::max<int64_t>(p.I, 15), p.H = std::max<int64_t>(p.H, 15);
  p.packed = random.below(3) == 0;
  p.joined = !p.packed && random.below(3) == 0;
  const bool ragged = p.compact() || random.below(3) == 0;
  p.ordered = !p.packed && ragged;
  p.with_h0 = random.flip();
  for (int64_t b = 0, length = p.T; b < p.B; ++b) {
    if (ragged && random.below(3) == 0) length = p.packed ? 1 + random.below(length) : random.below(length + 1);
    p.lengths.push_back(length);
    p.order.push_back((b * 7 + 3) % p.B);
  }
  if (p.B % 7 == 0) {
    for (int64_t b = 0; b < p.B; ++b) p.order[static_cast<size_t>(b)] = p.B - 1 - b;
  }
  for (int64_t t = 0, n = 0; t < p.T; ++t) {
    int64_t rows = 0;
    for (int64_t length : p.lengths) rows += t < length ? 1 : 0;
    p.rows.push_back(rows);
    p.first.push_back(n);
    n += rows;
  }
  for (int64_t b = 0, n = 0; b < p.B; n += p.lengths[static_cast<size_t>(b++)]) p.begin.push_back(n);
  const double scale = 0.8 / std::sqrt(static_cast<double>(p.H));
  for (int64_t d = 0; d < p.D; ++d) {
    p.w_ih[d] = random.tensor(3 * p.H * p.I, 0.3);
    p.w_hh[d] = random.tensor(3 * p.H * p.H, scale);
    if (p.bias) p.b_ih[d] = random.tensor(3 * p.H, 0.3);
    if (p.bias) p.b_hh[d] = random.tensor(3 * p.H, 0.3);
    if (p.form == Form::normed) p.g_ih[d] = random.tensor(3 * p.H, 1);
    if (p.form == Form::normed) p.g_hh[d] = random.tensor(3 * p.H, 1);
  }
  p.x = random.tensor(p.steps_in_memory() * p.I, 1);
  if (p.with_h0) p.h0 = random.tensor(p.D * p.B * p.H, 1);
  if (random.below(3) == 0) {
    const uint8_t bits[] = {2, 0x80, 0x82, 0, 0, 0, 0, 0};
    for (int64_t i = 0; i < p.steps_in_memory(); ++i) p.resets.push_back(bits[random.below(8)]);
    if (random.flip()) p.initial = random.tensor(p.D * p.H, 1);
  }
  if (random.below(4) == 0) {
    for (int64_t i = 0; i < p.D * p.B * p.H; ++i) p.recurrent.push_back(random.below(3) == 0 ? 0 : 1.5);
  }
  if (random.below(4) == 0) {
    for (int64_t i = 0; i < p.steps_in_memory() * p.D * p.H; ++i) p.zoneout.push_back(random.below(3) == 0 ? 0 : 1);
  }
  if (random.below(6) == 0) p.keep = 0.75;
  if (random.below(4) != 0) p.dy = random.tensor(p.steps_in_memory() * p.D * p.H, 1);
  if (p.dy.empty() || random.flip()) p.dh_n = random.tensor(p.D * p.B * p.H, 1);
  return p;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// v = (a - mean) / sqrt(variance + epsilon), in place; returns 1 / sqrt(variance + epsilon).
double normalise(Tensor<double>& a) {
  double mean = 0, variance = 0;
  for (double x : a) mean += x / static_cast<double>(a.size());
  for (double x : a) variance += (x - mean) * (x - mean) / static_cast<double>(a.size());
  const double inverse = 1 / std::sqrt(variance + fastgru::kNormEpsilon);
  for (double& x : a) x = (x - mean) * inverse;
  return inverse;
}

// The gradient of normalise's argument from that of its result v.
void differentiate_norm(const Tensor<double>& v, double inverse, Tensor<double>& d) {
  double mean = 0, slope = 0;
  for (size_t j = 0; j < d.size(); ++j) {
    mean += d[j] / static_cast<double>(d.size());
    slope += d[j] * v[j] / static_cast<double>(d.size());
  }
  for (size_t j = 0; j < d.size(); ++j) d[j] = inverse * (d[j] - mean - v[j] * slope);
}

// What a step keeps for backward: the gates r, z, n, q; what W_hn saw; of Form::normed the norms and their factors.
struct Step {
  Tensor<double> gate, reset, v_x, v_h;
  double inverse_x, inverse_h;
};

// One sequence of one direction, forward and back.
void expect_sequence(const Problem& p, int64_t d, int64_t b, Results& out) {
  const int64_t H = p.H, I = p.I, length = p.lengths[static_cast<size_t>(b)], state = (d * p.B + p.slot(b)) * H;
  const auto index = [](int64_t i) { return static_cast<size_t>(i); };
  const bool before_product = p.form == Form::before, normed = p.form == Form::normed;
  std::vector<Tensor<double>> h{Tensor<double>(index(H))};
  std::vector<Step> steps;
  for (int64_t i = 0; i < H && p.with_h0; ++i) h[0][index(i)] = p.h0[index(state + i)];
  const bool reverse = d == 1 || p.reverse;
  const auto time = [&](int64_t s) { return reverse ? length - 1 - s : s; };
  const auto seen = [&](int64_t k) { return p.recurrent.empty() ? 1.0 : p.recurrent[index(state + k)]; };
  const auto keep = [&](int64_t s, int64_t i) {
    return p.zoneout.empty() ? p.keep : p.zoneout[index(p.at(time(s), b) * p.D * H + d * H + i)];
  };
  const auto bias = [&](const Tensor<double>& from, int64_t i) { return p.bias ? from[index(i)] : 0.0; };
  const auto parted = [&](int64_t s) -> int {
    const int64_t t = time(s) + (reverse ? 1 : 0);
    return !p.resets.empty() && t < length ? p.resets[index(p.at(t, b))] : 0;
  };
  const auto fresh = [&](int64_t s) { return (parted(s) & 2) != 0; };
  for (int64_t s = 0; s < length; ++s) {
    if (fresh(s)) {
      for (int64_t i = 0; i < H; ++i) h.back()[index(i)] = p.initial.empty() ? 0 : p.initial[index(d * H + i)];
    }
    const double* x = &p.x[index(p.at(time(s), b) * I)];
    Tensor<double> next(index(H)), gx(index(3 * H)), gh(index(3 * H));
    Step step{Tensor<double>(index(4 * H)), Tensor<double>(index(H)), {}, {}, 1, 1};
    for (int64_t j = 0; j < 3 * H; ++j) {
      for (int64_t k = 0; k < I; ++k) gx[index(j)] += p.w_ih[d][index(j * I + k)] * x[k];
      for (int64_t k = 0; k < H; ++k) gh[index(j)] += p.w_hh[d][index(j * H + k)] * h.back()[index(k)] * seen(k);
    }
    if (normed) {
      step.inverse_x = normalise(gx), step.inverse_h = normalise(gh);
      step.v_x = gx, step.v_h = gh;
    }
    for (int64_t j = 0; j < 3 * H; ++j) {
      gx[index(j)] = gx[index(j)] * (normed ? p.g_ih[d][index(j)] : 1) + bias(p.b_ih[d], j);
      gh[index(j)] = gh[index(j)] * (normed ? p.g_hh[d][index(j)] : 1) + bias(p.b_hh[d], j);
    }
    for (int64_t i = 0; i < H; ++i) {
      step.gate[index(i)] = sigmoid(gx[index(i)] + gh[index(i)]);
      step.reset[index(i)] = step.gate[index(i)] * h.back()[index(i)] * seen(i);
    }
    for (int64_t i = 0; i < H; ++i) {
      const double r = step.gate[index(i)], z = sigmoid(gx[index(H + i)] + gh[index(H + i)]);
      double q = gh[index(2 * H + i)];
      if (before_product) {
        q = bias(p.b_hh[d], 2 * H + i);
        for (int64_t k = 0; k < H; ++k) q += p.w_hh[d][index((2 * H + i) * H + k)] * step.reset[index(k)];
      }
      const double n = std::tanh(gx[index(2 * H + i)] + (before_product ? q : r * q)), before = h.back()[index(i)];
      next[index(i)] = before + keep(s, i) * ((1 - z) * n + z * before - before);
      step.gate[index(H + i)] = z, step.gate[index(2 * H + i)] = n, step.gate[index(3 * H + i)] = q;
      out.y[index(p.at(time(s), b) * p.D * H + d * H + i)] = next[index(i)];
    }
    h.push_back(next);
    steps.push_back(step);
  }
  for (int64_t i = 0; i < H; ++i) out.h_n[index(state + i)] = h.back()[index(i)];

  Tensor<double> dh(index(H));
  for (int64_t i = 0; i < H && !p.dh_n.empty(); ++i) dh[index(i)] = p.dh_n[index(state + i)];
  for (int64_t s = length - 1; s >= 0; --s) {
    const int64_t row = p.at(time(s), b);
    const Step& step = steps[index(s)];
    const Tensor<double>&gate = step.gate, &before = h[index(s)];
    Tensor<double> dgx(index(3 * H)), dgh(index(3 * H)), dprevious(index(H));
    for (int64_t i = 0; i < H; ++i) {
      if (!p.dy.empty()) dh[index(i)] += p.dy[index(row * p.D * H + d * H + i)];
      const double whole = dh[index(i)];
      dh[index(i)] *= keep(s, i);
      const double r = gate[index(i)], z = gate[index(H + i)], n = gate[index(2 * H + i)], q = gate[index(3 * H + i)];
      const double dn = dh[index(i)] * (1 - z) * (1 - n * n);
      const double dz = dh[index(i)] * (before[index(i)] - n) * z * (1 - z), dr = dn * q * r * (1 - r);
      dgx[index(i)] = dgh[index(i)] = dr;
      dgx[index(H + i)] = dgh[index(H + i)] = dz;
      dgx[index(2 * H + i)] = dn;
      dgh[index(2 * H + i)] = before_product ? dn : dn * r;
      dprevious[index(i)] += dh[index(i)] * z + whole - dh[index(i)];
    }
    for (int64_t i = 0; i < H && before_product; ++i) {
      double through = 0;
      for (int64_t j = 0; j < H; ++j) through += dgh[index(2 * H + j)] * p.w_hh[d][index((2 * H + j) * H + i)];
      const double r = gate[index(i)];
      dgx[index(i)] = dgh[index(i)] = through * before[index(i)] * seen(i) * r * (1 - r);
      dprevious[index(i)] += through * r * seen(i);
    }
    for (int64_t j = 0; j < 3 * H; ++j) {
      out.db_ih[d][index(j)] += dgx[index(j)];
      out.db_hh[d][index(j)] += dgh[index(j)];
      if (!normed) continue;
      out.dg_ih[d][index(j)] += dgx[index(j)] * step.v_x[index(j)];
      out.dg_hh[d][index(j)] += dgh[index(j)] * step.v_h[index(j)];
      dgx[index(j)] *= p.g_ih[d][index(j)];
      dgh[index(j)] *= p.g_hh[d][index(j)];
    }
    if (normed) differentiate_norm(step.v_x, step.inverse_x, dgx);
    if (normed) differentiate_norm(step.v_h, step.inverse_h, dgh);
    for (int64_t j = 0; j < 3 * H; ++j) {
      for (int64_t k = 0; k < I; ++k) {
        out.dw_ih[d][index(j * I + k)] += dgx[index(j)] * p.x[index(row * I + k)];
        out.dx[index(row * I + k)] += dgx[index(j)] * p.w_ih[d][index(j * I + k)];
      }
      const bool is_reset = before_product && j >= 2 * H;  // W_hn saw r * h, whose gradient has been passed on
      for (int64_t k = 0; k < H; ++k) {
        out.dw_hh[d][index(j * H + k)] +=
            dgh[index(j)] * (is_reset ? step.reset[index(k)] : before[index(k)] * seen(k));
        if (!is_reset) dprevious[index(k)] += dgh[index(j)] * p.w_hh[d][index(j * H + k)] * seen(k);
      }
    }
    dh = dprevious;
    if (parted(s) == 0) continue;
    for (int64_t i = 0; i < H && fresh(s) && !p.initial.empty(); ++i) out.dinitial[index(d * H + i)] += dh[index(i)];
    dh.assign(index(H), 0);
  }
  for (int64_t i = 0; i < H; ++i) out.dh0[index(state + i)] = dh[index(i)];
}

Results blank(const Problem& p, double fill) {
  Results out;
  const auto make = [&](int64_t n) { return Tensor<double>(static_cast<size_t>(n), fill); };
  out.y = make(p.steps_in_memory() * p.D * p.H);
  out.dx = make(p.steps_in_memory() * p.I);
  out.h_n = out.dh0 = make(p.D * p.B * p.H);
  if (!p.initial.empty()) out.dinitial = make(p.D * p.H);
  for (int64_t d = 0; d < p.D; ++d) {
    out.dw_ih[d] = make(3 * p.H * p.I);
    out.dw_hh[d] = make(3 * p.H * p.H);
    out.db_ih[d] = out.db_hh[d] = make(3 * p.H);
    if (p.form == Form::normed) out.dg_ih[d] = out.dg_hh[d] = make(3 * p.H);
  }
  return out;
}

Results expect(const Problem& p) {
  Results out = blank(p, 0);
  for (int64_t d = 0; d < p.D; ++d) {
    for (int64_t b = 0; b < p.B; ++b) expect_sequence(p, d, b, out);
  }
  return out;
}

template <class Args, class Real>
struct Call {
  void (*run)(const Args&, Real*, const Team&) noexcept;
  const Args& args;
  Real* scratch;

  static void body(const Team& team, void* context) noexcept {
    const auto& call = *static_cast<const Call*>(context);
    call.run(call.args, call.scratch, team);
  }
};

template <class Args, class Real>
void run(const Args& args, int64_t elements, int32_t threads,
         void (*kernel)(const Args&, Real*, const Team&) noexcept) {
  const auto alignment = std::align_val_t(64);
  auto* scratch = static_cast<Real*>(::operator new(static_cast<size_t>(elements) * sizeof(Real), alignment));
  for (int64_t i = 0; i < elements; ++i) scratch[i] = static_cast<Real>(kNaN);
  Call<Args, Real> call{kernel, args, scratch};
  fastgru::run_team(threads, &Call<Args, Real>::body, &call);
  ::operator delete(scratch, alignment);
}

// The problem and its results in Real, and the kernels' view of them.
template <class Real>
class Layer {
 public:
  Layer(const Problem& p, const Kernels<Real>& kernels) : p_(p), kernels_(kernels), out_(blank(p, kNaN)) {}

  // Forward for inference with packed weights kept, then with saved, then back twice: all must agree.
  Results compute(int32_t threads) {
    ForwardArgs<Real> forward = forward_args();
    for (int round = 0; round < 2; ++round) {  // packs, then uses what was packed
      forward.packed[0] = forward.packed[1] = nullptr;
      forward.pack_into[0] = forward.pack_into[1] = nullptr;
      fastgru::PackedLoan<Real> loan(kernels_, forward);
      run(forward, kernels_.forward_scratch(forward, threads), threads, kernels_.forward);
      loan.keep();
    }
    forward = forward_args();
    saved_.assign(static_cast<size_t>(p_.D * forward.steps.saved_rows() * fastgru::saved_pitch(p_.form, p_.H)),
                  static_cast<Real>(kNaN));
    forward.saved = saved_.data();
    run(forward, kernels_.forward_scratch(forward, threads), threads, kernels_.forward);
    const BackwardArgs<Real> backward = backward_args();
    for (int round = 0; round < 2; ++round) {
      run(backward, kernels_.backward_scratch(backward, threads), threads, kernels_.backward);
    }
    return results();
  }

 private:
  static Tensor<Real> narrow(const Tensor<double>& from) { return Tensor<Real>(from.begin(), from.end()); }
  static Tensor<double> widen(const Tensor<Real>& from) { return Tensor<double>(from.begin(), from.end()); }
  static const Real* data(const Tensor<Real>& t) { return t.empty() ? nullptr : t.data(); }

  template <class Args>
  Args common() {
    Args args{};
    args.I = p_.I;
    args.H = p_.H;
    args.D = p_.D;
    args.form = p_.form;
    args.reverse = p_.reverse;
    const bool ragged = p_.compact() || p_.ordered;
    const int64_t *first = ragged ? p_.first.data() : nullptr, *order = p_.ordered ? p_.order.data() : nullptr;
    args.steps = {p_.T,
                  p_.B,
                  ragged ? p_.rows.data() : nullptr,
                  first,
                  order,
                  p_.packed ? first : nullptr,
                  p_.joined ? p_.begin.data() : order};
    args.resets = {series<const uint8_t>(p_.resets.empty() ? nullptr : p_.resets.data(), 1), data(initial_)};
    args.noise = {data(recurrent_), series<const Real>(data(zoneout_), p_.D * p_.H), static_cast<Real>(p_.keep)};
    for (int64_t d = 0; d < p_.D; ++d) {
      args.parameters[d] = {data(w_ih_[d]), data(w_hh_[d]), data(b_ih_[d]),
                            data(b_hh_[d]), data(g_ih_[d]), data(g_hh_[d])};
    }
    args.x = series<const Real>(data(x_), p_.I);
    args.h0 = data(h0_);
    return args;
  }

  template <class T>
  fastgru::Series<T> series(T* at, int64_t features) const {
    return {at, p_.compact() ? features : p_.B * features, features};
  }

  ForwardArgs<Real> forward_args() {
    auto args = common<ForwardArgs<Real>>();
    args.y = series<Real>(y_.data(), p_.D * p_.H);
    args.h_n = h_n_.data();
    return args;
  }

  BackwardArgs<Real> backward_args() {
    auto args = common<BackwardArgs<Real>>();
    args.y = series<const Real>(y_.data(), p_.D * p_.H);
    args.saved = saved_.data();
    args.dy = series<const Real>(data(dy_), p_.D * p_.H);
    args.dh_n = data(dh_n_);
    args.dx = series<Real>(dx_.data(), p_.I);
    args.dh0 = dh0_.data();
    args.dinitial = dinitial_.empty() ? nullptr : dinitial_.data();
    for (int64_t d = 0; d < p_.D; ++d) {
      args.gradients[d] = {dw_ih_[d].data(), dw_hh_[d].data(), db_ih_[d].data(),
                           db_hh_[d].data(), dg_ih_[d].data(), dg_hh_[d].data()};
    }
    return args;
  }

  Results results() const {
    Results out = out_;
    out.y = widen(y_), out.h_n = widen(h_n_), out.dx = widen(dx_), out.dh0 = widen(dh0_);
    out.dinitial = widen(dinitial_);
    for (int64_t d = 0; d < p_.D; ++d) {
      out.dw_ih[d] = widen(dw_ih_[d]), out.dw_hh[d] = widen(dw_hh_[d]);
      out.db_ih[d] = widen(db_ih_[d]), out.db_hh[d] = widen(db_hh_[d]);
      out.dg_ih[d] = widen(dg_ih_[d]), out.dg_hh[d] = widen(dg_hh_[d]);
    }
    return out;
  }

  const Problem& p_;
  const Kernels<Real>& kernels_;
  const Results out_;
  const Tensor<Real> w_ih_[2]{narrow(p_.w_ih[0]), narrow(p_.w_ih[1])}, w_hh_[2]{narrow(p_.w_hh[0]), narrow(p_.w_hh[1])};
  const Tensor<Real> b_ih_[2]{narrow(p_.b_ih[0]), narrow(p_.b_ih[1])}, b_hh_[2]{narrow(p_.b_hh[0]), narrow(p_.b_hh[1])};
  const Tensor<Real> g_ih_[2]{narrow(p_.g_ih[0]), narrow(p_.g_ih[1])}, g_hh_[2]{narrow(p_.g_hh[0]), narrow(p_.g_hh[1])};
  const Tensor<Real> x_{narrow(p_.x)}, h0_{narrow(p_.h0)}, initial_{narrow(p_.initial)};
  const Tensor<Real> recurrent_{narrow(p_.recurrent)}, zoneout_{narrow(p_.zoneout)};
  const Tensor<Real> dy_{narrow(p_.dy)}, dh_n_{narrow(p_.dh_n)};
  Tensor<Real> y_{narrow(out_.y)}, h_n_{narrow(out_.h_n)}, dx_{narrow(out_.dx)}, dh0_{narrow(out_.dh0)}, saved_;
  Tensor<Real> dinitial_{narrow(out_.dinitial)};
  Tensor<Real> dw_ih_[2]{narrow(out_.dw_ih[0]), narrow(out_.dw_ih[1])};
  Tensor<Real> dw_hh_[2]{narrow(out_.dw_hh[0]), narrow(out_.dw_hh[1])};
  Tensor<Real> db_ih_[2]{narrow(out_.db_ih[0]), narrow(out_.db_ih[1])};
  Tensor<Real> db_hh_[2]{narrow(out_.db_hh[0]), narrow(out_.db_hh[1])};
  Tensor<Real> dg_ih_[2]{narrow(out_.dg_ih[0]), narrow(out_.dg_ih[1])};
  Tensor<Real> dg_hh_[2]{narrow(out_.dg_hh[0]), narrow(out_.dg_hh[1])};
};

// Root of the squared differences over that of the squares (at least 1e-3: cancelled sums have no digits), over
// what the problem has; steps that a sequence has not must be untouched.
double error_of(const Tensor<double>& got, const Tensor<double>& expected, const std::vector<bool>& exists) {
  double difference = 0, scale = 1e-6;
  for (size_t i = 0; i < got.size(); ++i) {
    if (!exists.empty() && !exists[i]) {
      if (!std::isnan(got[i])) return std::numeric_limits<double>::infinity();
      continue;
    }
    difference += (got[i] - expected[i]) * (got[i] - expected[i]);
    scale += expected[i] * expected[i];
  }
  return std::sqrt(difference / scale);
}

std::vector<bool> existing(const Problem& p, int64_t features) {
  std::vector<bool> out(static_cast<size_t>(p.steps_in_memory() * features), false);
  for (int64_t b = 0; b < p.B; ++b) {
    for (int64_t t = 0; t < p.lengths[static_cast<size_t>(b)]; ++t) {
      for (int64_t i = 0; i < features; ++i) out[static_cast<size_t>(p.at(t, b) * features + i)] = true;
    }
  }
  return out;
}

// True where all is within the bounds: of the outputs, and of the gradients. Weights of few units are large, and so
// are the terms that cancel in a sum of theirs: below 8 units the bounds grow with 8 / H. A norm takes the mean from
// all numbers, forward and backward, and what is left has fewer digits: 3 times the bounds, 1.8 times were seen.
bool agrees(const Problem& p, const Results& got, const Results& expected, double outputs, double gradients) {
  bool good = true;
  const double tiny = std::max(1.0, 8.0 / static_cast<double>(p.H));
  const double rounded = tiny * (p.form == Form::normed ? 3 : 1);
  outputs *= rounded, gradients *= rounded;
  const auto check = [&](const char* name, double error, double bound) {
    if (error <= bound) return;
    good = false;
    std::printf("%s: error %.2e, bound %.2e\n", name, error, bound);
  };
  check("y", error_of(got.y, expected.y, existing(p, p.D * p.H)), outputs);
  check("h_n", error_of(got.h_n, expected.h_n, {}), outputs);
  check("dx", error_of(got.dx, expected.dx, existing(p, p.I)), gradients);
  check("dh0", error_of(got.dh0, expected.dh0, {}), gradients);
  check("dinitial", error_of(got.dinitial, expected.dinitial, {}), gradients);
  for (int64_t d = 0; d < p.D; ++d) {
    check("dw_ih", error_of(got.dw_ih[d], expected.dw_ih[d], {}), gradients);
    check("dw_hh", error_of(got.dw_hh[d], expected.dw_hh[d], {}), gradients);
    check("db_ih", error_of(got.db_ih[d], expected.db_ih[d], {}), gradients);
    check("db_hh", error_of(got.db_hh[d], expected.db_hh[d], {}), gradients);
    check("dg_ih", error_of(got.dg_ih[d], expected.dg_ih[d], {}), gradients);
    check("dg_hh", error_of(got.dg_hh[d], expected.dg_hh[d], {}), gradients);
  }
  if (!good) {
    std::printf(
        "  at form %d I %d H %d D %d T %d B %d, bias %d packed %d joined %d ordered %d h0 %d resets %d "
        "reverse %d\n",
        int(p.form), int(p.I), int(p.H), int(p.D), int(p.T), int(p.B), p.bias, p.packed, p.joined, p.ordered, p.with_h0,
        !p.resets.empty(), p.reverse);
  }
  return good;
}

bool test_isa(fastgru::Isa isa, uint32_t seed, int64_t count) {
  const fastgru::KernelSet& set = fastgru::kernels_of(isa);
  Random random(seed);
  for (int64_t i = 0; i < count; ++i) {
    const Problem p = draw(random);
    const Results expected = expect(p);
    const auto threads = static_cast<int32_t>(1 + i % 4);
    if (!agrees(p, Layer<float>(p, set.f32).compute(threads), expected, 1e-6, 3e-6) ||
        !agrees(p, Layer<double>(p, set.f64).compute(threads), expected, 1e-14, 1e-13)) {
      std::printf("  %s, %d threads, case %d\n", fastgru::isa_name(isa), threads, int(i));
      return false;
    }
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t count = argc > 1 ? std::atoi(argv[1]) : 60;
  bool good = true;
  for (int32_t i = 0; i < fastgru::kIsaCount; ++i) {
    const auto isa = static_cast<fastgru::Isa>(i);
    if (!fastgru::isa_supported(isa)) continue;
    // Two callers at once: nothing but the cache of packed weights is shared between them.
    bool other = true;
    std::thread caller([&] { other = test_isa(isa, 1, count / 2); });
    good = test_isa(isa, 2, count) && good;
    caller.join();
    good = good && other;
    std::printf("%s: %s\n", fastgru::isa_name(isa), good ? "good" : "BAD");
  }
  return good ? 0 : 1;
}
