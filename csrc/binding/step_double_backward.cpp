// The second derivatives of a single layer's step, from tensors to tensors.
#include <cstdint>
#include <vector>

#include "dispatch.h"
#include "step_weights.h"

namespace fastgru::binding {
namespace {

// What goes in beside the step's own tensors, and what comes out. Weights are in torch's order; null is zero, or not
// wanted.
struct SecondGradients {
  View saved, dy, dh_n, v_x, v_h0;
  std::vector<const void*> v;
  View ddy, ddh_n, dx, dh0;
  std::vector<void*> weights;
};

bool is_plain_step(const StepCall& call) noexcept { return call.L == 1 && call.form == Form::after && call.keep == 1; }

// Of one of them at least there must be some.
bool read_cotangents(const StepCall& call, nb::handle dy, nb::handle dh_n, Reader& reader, SecondGradients& to) {
  return !(dy.is_none() && dh_n.is_none()) && (dy.is_none() || call.read_output(dy, "dy", reader, to.dy)) &&
         (dh_n.is_none() || call.read_states(dh_n, "dh_n", reader, to.dh_n));
}

// Those of the gradients of x, the state and the weights.
bool read_tangents(const StepCall& call, const nb::sequence& given, Reader& reader, SecondGradients& to) {
  const nb::object x = given[0], state = given[1];
  if (!x.is_none() && !call.read_rows(x, "the cotangent of dx", call.I, reader, to.v_x)) return false;
  if (!state.is_none() && !(call.state.there && call.read_states(state, "the cotangent of dh0", reader, to.v_h0))) {
    return false;
  }
  to.v.resize(static_cast<size_t>(call.count()));
  for (int64_t i = 0; i < call.count(); ++i) {
    const auto at = static_cast<size_t>(i);
    const nb::object weight = given[2 + at];
    if (weight.is_none()) continue;
    View view;
    const char* name = "the cotangent of a weight's gradient";
    const bool fits = call.columns(i) > 0 ? call.read_as(weight, name, {3 * call.H, call.columns(i)}, reader, view)
                                          : call.read_as(weight, name, {3 * call.H}, reader, view);
    if (!fits) return false;
    to.v[at] = view.data;
  }
  return true;
}

// Empty tensors for dy, dh_n, x, the state and the weights; None where not wanted or not there.
nb::list new_results(const StepCall& call, const nb::list& weights, const nb::sequence& wanted, SecondGradients& to) {
  const auto wants = [&](size_t i) { return nb::cast<bool>(wanted[i]); };
  nb::list made;
  made.append(wants(0) && to.dy.there ? call.new_output(to.ddy) : nb::none());
  made.append(wants(1) && to.dh_n.there ? call.new_states(to.ddh_n) : nb::none());
  made.append(wants(2) ? call.new_input(to.dx) : nb::none());
  made.append(wants(3) && call.state.there ? call.new_states(to.dh0) : nb::none());
  to.weights.resize(static_cast<size_t>(call.count()));
  for (int64_t i = 0; i < call.count(); ++i) {
    const auto at = static_cast<size_t>(i);
    View view;
    made.append(wants(4 + at) ? call.new_gradient(weights[at], i, view) : nb::none());
    to.weights[at] = view.data;
  }
  return made;
}

template <class Real>
void run_double_backward(const StepCall& call, const SecondGradients& given, int32_t threads) {
  const auto from = [](const View& view) { return static_cast<const Real*>(view.data); };
  const auto to = [](const View& view) { return static_cast<Real*>(view.data); };
  DoubleBackwardArgs<Real> args{};
  args.I = call.I;
  args.H = call.H;
  args.D = call.D;
  args.B = call.B;
  call.set_parameters(0, call.weights.data(), args.parameters);
  args.x = from(call.x);
  args.h0 = from(call.state);
  args.saved = from(given.saved);
  args.dy = from(given.dy);
  args.dh_n = from(given.dh_n);
  args.v_x = from(given.v_x);
  args.v_h0 = from(given.v_h0);
  call.set_parameters(0, given.v.data(), args.v);
  args.ddy = to(given.ddy);
  args.ddh_n = to(given.ddh_n);
  args.dx = to(given.dx);
  args.dh0 = to(given.dh0);
  call.set_parameters(0, given.weights.data(), args.gradients);
  const Kernels<Real>& kernels = active_kernels<Real>();
  const int32_t team = kernels.double_backward_threads(args, threads);
  run_kernel(args, kernels.double_backward_scratch(args, team), team, kernels.double_backward);
}

}  // namespace

nb::object StepWeights::double_backward(nb::handle x, nb::handle state, nb::handle saved, nb::handle dy,
                                        nb::handle dh_n, const nb::sequence& cotangents, const nb::sequence& wanted,
                                        int32_t threads) const {
  check_threads(threads);
  check();
  StepCall call = form_;
  Reader reader;
  SecondGradients given{};
  const bool fits = is_plain_step(call) && static_cast<int64_t>(nb::len(cotangents)) == 2 + call.count() &&
                    static_cast<int64_t>(nb::len(wanted)) == 4 + call.count() &&
                    call.read_input(x, weights_, kTrainedStepRows, reader) && call.read_weights(weights_, reader) &&
                    call.read_state(state, reader) &&
                    call.read_as(saved, "saved", {Saved(call).size(call.L)}, reader, given.saved) &&
                    read_cotangents(call, dy, dh_n, reader, given) && read_tangents(call, cotangents, reader, given);
  if (!fits) return nb::none();
  nb::list made = new_results(call, weights_, wanted, given);
  run_unlocked(6 * call.products(), [&] {
    call.is_double() ? run_double_backward<double>(call, given, threads)
                     : run_double_backward<float>(call, given, threads);
  });
  return made;
}

}  // namespace fastgru::binding
