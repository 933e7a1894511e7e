// A problem and its results in float or double, and the kernels' view of them.
#pragma once

#include <limits>
#include <new>
#include <utility>

#include "memory.h"
#include "packed_cache.h"
#include "problem.h"
#include "threads.h"

namespace fastgru::tests {

template <class Args, class Real>
using Kernel = void (*)(const Args&, Real*, const Team&) noexcept;

template <class Args, class Real>
void run(const Args& args, int64_t elements, int32_t threads, Kernel<Args, Real> kernel) {
  struct Call {
    Kernel<Args, Real> kernel;
    const Args& args;
    Real* scratch;
  };
  const auto alignment = std::align_val_t(64);
  auto* scratch = static_cast<Real*>(::operator new(static_cast<size_t>(elements) * sizeof(Real), alignment));
  for (int64_t i = 0; i < elements; ++i) scratch[i] = std::numeric_limits<Real>::quiet_NaN();
  Call call{kernel, args, scratch};
  const auto body = [](const Team& team, void* context) noexcept {
    const auto& c = *static_cast<const Call*>(context);
    c.kernel(c.args, c.scratch, team);
  };
  run_team(threads, body, &call);
  ::operator delete(scratch, alignment);
}

// Outputs are NaN before: what is not written shows, and so does what is written where a sequence has no step.
template <class Real>
class Layer {
 public:
  bool batch_invariant = false;

  Layer(const Problem& p, const Kernels<Real>& kernels) : p_(p), kernels_(kernels) {}

  // Forward for inference, by way of the cache of packed weights.
  void infer(int32_t threads) {
    out_ = Results<Real>(blank(p_, kNaN));
    ForwardArgs<Real> forward = forward_args();
    PackedLookup<Real> lookup(kernels_, forward);
    run(forward, kernels_.forward_scratch(forward, threads), threads, kernels_.forward);
    lookup.keep();
  }

  // With weights packed before, which are trusted: the kernels are given no others.
  void infer_trusted(int32_t threads) {
    out_ = Results<Real>(blank(p_, kNaN));
    ForwardArgs<Real> forward = forward_args();
    Buffer<Real> packed[2];
    for (int64_t d = 0; d < p_.D; ++d) {
      packed[d] = Buffer<Real>(static_cast<size_t>(kernels_.packed_elements(p_.I, p_.H)));
      kernels_.pack(forward.parameters[d], p_.form, p_.I, p_.H, packed[d].data());
      forward.packed[d] = packed[d].data();
      forward.parameters[d] = {};
    }
    forward.trusted = true;
    run(forward, kernels_.forward_scratch(forward, threads), threads, kernels_.forward);
  }

  // With weights that another lends, a LowLayer.
  template <class Lender>
  void infer_with(const Lender& lender, int32_t threads) {
    out_ = Results<Real>(blank(p_, kNaN));
    ForwardArgs<Real> forward = forward_args();
    for (Parameters<const Real>& own : forward.parameters) own = {};
    lender.lend(forward);
    const ForwardKernels<Real>& kernels = lender.kernels();
    run(forward, kernels.forward_scratch(forward, threads), threads, kernels.forward);
  }

  // Leaves packed weights behind that are not the layer's any more, but for one number.
  void infer_with_others(int32_t threads) {
    Real& number = weights_[p_.D - 1].w_hh[weights_[p_.D - 1].w_hh.size() - 1];
    const Real own = number;
    number += Real(8);
    infer(threads);
    number = own;
  }

  // Forward with saved, then back twice: both must leave the same.
  void train(int32_t threads) {
    out_ = Results<Real>(blank(p_, kNaN));
    ForwardArgs<Real> forward = forward_args();
    saved_ = Tensor<Real>(p_.D * forward.steps.saved_rows() * saved_pitch(p_.form, p_.H),
                          std::numeric_limits<Real>::quiet_NaN());
    forward.saved = saved_.data();
    run(forward, kernels_.forward_scratch(forward, threads), threads, kernels_.forward);
    const BackwardArgs<Real> backward = backward_args();
    for (int round = 0; round < 2; ++round) {
      run(backward, kernels_.backward_scratch(backward, threads), threads, kernels_.backward);
    }
  }

  // After train, where this is a single step: back once more, with the weights' gradients made of records, in two
  // parts. False where it is none.
  bool train_by_records(int32_t threads) {
    BackwardArgs<Real> backward = backward_args();
    if (!kernels_.leaves_records(backward)) return false;
    const Results<Real> blanks(blank(p_, kNaN));
    Tensor<Real> records[2];
    for (int64_t d = 0; d < p_.D; ++d) {
      out_.gradients[d] = blanks.gradients[d];
      records[d] = Tensor<Real>(p_.B * record_pitch(p_.form, p_.I, p_.H), std::numeric_limits<Real>::quiet_NaN());
      backward.records[d] = records[d].data();
    }
    run(backward, kernels_.backward_scratch(backward, threads), threads, kernels_.backward);
    for (int64_t d = 0; d < p_.D; ++d) add_records(records[d], threads, out_.gradients[d]);
    return true;
  }

  // After train of what has_second_derivatives.
  void double_backward(const Results<double>& direction, int32_t threads) {
    out_ = Results<Real>(blank(p_, kNaN));
    const Results<Real> v(direction);
    DoubleBackwardArgs<Real> args{p_.I, p_.H, p_.D, p_.B, {}, x_.data(), h0_.data(), saved_.data(), dy_.data(),
                                  dh_n_.data(), v.dx.data(), v.dh0.data(), {}, out_.y.data(), out_.h_n.data(),
                                  out_.dx.data(), out_.dh0.data(), {}};
    for (int64_t d = 0; d < p_.D; ++d) {
      args.parameters[d] = std::as_const(weights_[d]).view();
      args.v[d] = v.gradients[d].view();
      args.gradients[d] = out_.gradients[d].view();
    }
    run(args, kernels_.double_backward_scratch(args, threads), threads, kernels_.double_backward);
  }

  Results<double> results() const { return Results<double>(out_); }

 private:
  static constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

  void add_records(const Tensor<Real>& records, int32_t threads, Weights<Real>& gradients) const {
    const int64_t first = (p_.B + 1) / 2, pitch = record_pitch(p_.form, p_.I, p_.H);
    for (int part = 0; part < 2; ++part) {
      const RecordArgs<Real> args{p_.I,
                                  p_.H,
                                  part == 0 ? first : p_.B - first,
                                  p_.form,
                                  records.data() + (part == 0 ? 0 : first * pitch),
                                  gradients.view(),
                                  part == 1};
      if (args.rows > 0) run(args, kernels_.records_scratch(args, threads), threads, kernels_.add_records);
    }
  }

  template <class Args>
  Args common() {
    Args args{};
    args.I = p_.I;
    args.H = p_.H;
    args.D = p_.D;
    args.form = p_.form;
    args.reverse = p_.reverse;
    const int64_t *first = p_.ragged() ? p_.first.data() : nullptr, *order = p_.ordered ? p_.order.data() : nullptr;
    args.steps = {p_.T,
                  p_.B,
                  p_.ragged() ? p_.rows.data() : nullptr,
                  first,
                  order,
                  p_.packed ? first : nullptr,
                  p_.joined ? p_.start.data() : order};
    args.resets = {series<const uint8_t>(p_.resets.data(), 1), initial_.data()};
    args.noise = {recurrent_.data(), series<const Real>(zoneout_.data(), p_.D * p_.H), static_cast<Real>(p_.keep)};
    for (int64_t d = 0; d < p_.D; ++d) args.parameters[d] = std::as_const(weights_[d]).view();
    args.x = series<const Real>(x_.data(), p_.I);
    args.h0 = h0_.data();
    return args;
  }

  template <class T>
  Series<T> series(T* at, int64_t features) const {
    return {at, p_.compact() ? features : p_.B * features, features};
  }

  ForwardArgs<Real> forward_args() {
    auto args = common<ForwardArgs<Real>>();
    args.batch_invariant = batch_invariant;
    args.y = series<Real>(out_.y.data(), p_.D * p_.H);
    args.h_n = out_.h_n.data();
    return args;
  }

  BackwardArgs<Real> backward_args() {
    auto args = common<BackwardArgs<Real>>();
    args.y = series<const Real>(out_.y.data(), p_.D * p_.H);
    args.saved = saved_.data();
    args.dy = series<const Real>(dy_.data(), p_.D * p_.H);
    args.dh_n = dh_n_.data();
    args.dx = series<Real>(out_.dx.data(), p_.I);
    args.dh0 = out_.dh0.data();
    args.dinitial = out_.dinitial.data();
    for (int64_t d = 0; d < p_.D; ++d) args.gradients[d] = out_.gradients[d].view();
    return args;
  }

  const Problem& p_;
  const Kernels<Real>& kernels_;
  Weights<Real> weights_[2]{Weights<Real>(p_.weights[0]), Weights<Real>(p_.weights[1])};
  const Tensor<Real> x_{p_.x}, h0_{p_.h0}, initial_{p_.initial}, recurrent_{p_.recurrent}, zoneout_{p_.zoneout};
  const Tensor<Real> dy_{p_.dy}, dh_n_{p_.dh_n};
  Results<Real> out_;
  Tensor<Real> saved_;
};

}  // namespace fastgru::tests
