#include "step_training.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "dispatch.h"
#include "step_weights.h"

using namespace nanobind::literals;

namespace fastgru::binding {
namespace {

// Rows of records at most: then their products are made.
constexpr int64_t kMostRecords = 256;

template <class Real>
void run_forward(const StepCall& call, const Masks& masks, Real* y, Real* h_n, Real* saved, int32_t threads) {
  const Kernels<Real>& kernels = active_kernels<Real>();
  const Saved layout(call);
  for (int64_t l = 0; l < call.L; ++l) {
    ForwardArgs<Real> args{};
    const Real* input = l == 0 ? static_cast<const Real*>(call.x.data) : saved + layout.input_at(call.L, l);
    call.set_layer(l, input, args);
    masks.set<ForwardArgs<Real>, Real>(args);
    args.batch_invariant = is_batch_invariant();
    args.y = {l == call.L - 1 ? y : saved + layout.input_at(call.L, l + 1), 0, call.D * call.H};
    args.h_n = h_n + l * call.D * call.B * call.H;
    args.saved = saved + l * layout.layer;
    const int32_t team = kernels.forward_threads(args, threads);
    run_kernel(args, kernels.forward_scratch(args, team), team, kernels.forward);
  }
}

}  // namespace

nb::object StepWeights::forward(nb::handle x, nb::handle state, nb::handle draw, int32_t threads) const {
  check_threads(threads);
  StepCall call = form_;
  Reader reader;
  Masks masks;
  const bool fits = call.read_input(x, weights_, kTrainedStepRows, reader) && call.read_weights(weights_, reader) &&
                    call.read_state(state, reader);
  if (!fits) return nb::none();
  nb::object noise = nb::none();
  if (!draw.is_none()) {
    noise = draw();
    const auto pair = nb::cast<nb::tuple>(noise);
    const bool fit = pair.size() == 2 && masks.read(call, pair[0], pair[1], reader);
    if (!fit) throw nb::value_error("the masks must be two, or None, in the forms of the next state and of y");
  }
  View y, h_n, saved;
  nb::object made = call.is_cell ? nb::none() : call.new_output(y), next = call.new_states(h_n);
  nb::object kept = new_empty(x, {Saved(call).size(call.L)}, saved);
  run_unlocked(call.products(), [&] {
    call.is_double() ? run_forward(call, masks, static_cast<double*>(y.data), static_cast<double*>(h_n.data),
                                   static_cast<double*>(saved.data), threads)
                     : run_forward(call, masks, static_cast<float*>(y.data), static_cast<float*>(h_n.data),
                                   static_cast<float*>(saved.data), threads);
  });
  return nb::make_tuple(std::move(made), std::move(next), std::move(kept), std::move(noise));
}

// Collects what steps leave for the gradients of a stack's weights: rows of records for each layer and direction.
class StepRecords {
 public:
  explicit StepRecords(const StepWeights& weights) : call_(weights.form()), wanted_(weights.wanted()) {
    View w_ih, w_hh;
    if (!read_header(weights.weights()[0], w_ih) || !read_header(weights.weights()[1], w_hh) || w_ih.ndim != 2 ||
        w_hh.ndim != 2 || w_ih.dtype.code != dlpack::kFloat || w_ih.dtype.bits < 32) {
      throw nb::value_error("weights must be dense tensors on the CPU");
    }
    like_ = nb::borrow(weights.weights()[0]);
    call_.I = w_ih.sizes[1];
    call_.H = w_hh.sizes[1];
    call_.x.dtype = w_ih.dtype;
    buffers_.resize(static_cast<size_t>(call_.L * call_.D));
    made_.resize(wanted_.size());
    gradients_.resize(wanted_.size());
  }

  bool fits(const StepCall& call) const noexcept {
    return call.L == call_.L && call.D == call_.D && call.form == call_.form && call.bias == call_.bias &&
           call.I == call_.I && call.H == call_.H && call.is_double() == call_.is_double();
  }

  // Room for a step's rows, of all layers and directions.
  void begin(int64_t rows, int32_t threads) {
    threads_ = threads;
    if (used_ + rows > room_) grow(rows);
    current_ = used_;
    used_ += rows;
  }

  template <class Real>
  Real* at(int64_t layer, int64_t direction) noexcept {
    auto& buffer = buffers_[static_cast<size_t>(layer * call_.D + direction)];
    return reinterpret_cast<Real*>(buffer.data()) + current_ * pitch(layer);
  }

  // The gradients of all steps since the last time, None where not wanted or where there was none.
  nb::list finish() {
    if (used_ > 0) flush();
    nb::list found;
    for (nb::object& gradient : made_) {
      found.append(gradient.is_valid() ? std::move(gradient) : nb::none());
      gradient.reset();
    }
    used_ = 0;
    has_gradients_ = false;
    return found;
  }

 private:
  int64_t pitch(int64_t layer) const noexcept { return record_pitch(call_.form, call_.inputs(layer), call_.H); }
  int64_t bytes() const noexcept { return call_.is_double() ? 8 : 4; }

  void grow(int64_t rows) {
    const int64_t most = std::max(kMostRecords, rows);
    if (used_ + rows > most) flush();
    if (used_ + rows <= room_) return;
    room_ = std::min(most, std::max(2 * room_, used_ + rows));
    for (int64_t l = 0; l < call_.L; ++l) {
      for (int64_t d = 0; d < call_.D; ++d) {
        buffers_[static_cast<size_t>(l * call_.D + d)].resize(static_cast<size_t>(room_ * pitch(l) * bytes()));
      }
    }
  }

  void make_gradients() {
    for (int64_t i = 0; i < call_.count(); ++i) {
      const auto at = static_cast<size_t>(i);
      if (!wanted_[at]) continue;
      View view;
      made_[at] = call_.new_gradient(like_, i, view);
      gradients_[at] = view.data;
    }
  }

  void flush() {
    if (!has_gradients_) make_gradients();
    call_.B = used_;
    run_unlocked(call_.products(), [&] { call_.is_double() ? multiply<double>() : multiply<float>(); });
    has_gradients_ = true;
    used_ = 0;
  }

  template <class Real>
  void multiply() {
    const Kernels<Real>& kernels = active_kernels<Real>();
    for (int64_t l = 0; l < call_.L; ++l) {
      Parameters<Real> to[2];
      call_.set_parameters(l, gradients_.data(), to);
      for (int64_t d = 0; d < call_.D; ++d) {
        const auto& buffer = buffers_[static_cast<size_t>(l * call_.D + d)];
        const RecordArgs<Real> args{call_.inputs(l), call_.H, used_, call_.form,
                                    reinterpret_cast<const Real*>(buffer.data()), to[d], has_gradients_};
        const int32_t team = kernels.records_threads(args, threads_);
        run_kernel(args, kernels.records_scratch(args, team), team, kernels.add_records);
      }
    }
  }

  StepCall call_;
  nb::object like_;
  std::vector<bool> wanted_;
  bool has_gradients_ = false;
  std::vector<std::vector<std::byte>> buffers_;  // of each layer and direction
  int64_t room_ = 0, used_ = 0, current_ = 0;    // rows
  int32_t threads_ = 1;                          // as the last step had them
  std::vector<nb::object> made_;
  std::vector<void*> gradients_;
};

namespace {

struct StepGradients {
  View dy, dh_n, saved, dx, dh0;
  std::vector<void*> weights;  // null: not wanted
  StepRecords* records;
};

template <class Real>
void run_backward(const StepCall& call, const Masks& masks, const StepGradients& given, int32_t threads) {
  const Kernels<Real>& kernels = active_kernels<Real>();
  const Saved layout(call);
  const auto* saved = static_cast<const Real*>(given.saved.data);
  std::vector<Real> between[2];
  for (auto& buffer : between) buffer.resize(call.L > 1 ? static_cast<size_t>(layout.input) : 0);
  const int64_t states = call.D * call.B * call.H;
  for (int64_t l = call.L - 1; l >= 0; --l) {
    BackwardArgs<Real> args{};
    call.set_layer(l, l == 0 ? static_cast<const Real*>(call.x.data) : saved + layout.input_at(call.L, l), args);
    masks.set<BackwardArgs<Real>, Real>(args);
    args.saved = saved + l * layout.layer;
    const bool is_last = l == call.L - 1;
    const auto* above = is_last ? static_cast<const Real*>(given.dy.data) : between[(l + 1) % 2].data();
    if (above != nullptr) args.dy = {above, 0, call.D * call.H};
    if (given.dh_n.there) args.dh_n = static_cast<const Real*>(given.dh_n.data) + l * states;
    if (l > 0) {
      args.dx = {between[l % 2].data(), 0, args.I};
    } else if (given.dx.there) {
      args.dx = {static_cast<Real*>(given.dx.data), 0, args.I};
    }
    if (given.dh0.there) args.dh0 = static_cast<Real*>(given.dh0.data) + l * states;
    for (int64_t d = 0; given.records != nullptr && d < call.D; ++d) args.records[d] = given.records->at<Real>(l, d);
    call.set_parameters(l, given.weights.data(), args.gradients);
    const int32_t team = kernels.backward_threads(args, threads);
    run_kernel(args, kernels.backward_scratch(args, team), team, kernels.backward);
  }
}

}  // namespace

nb::object StepWeights::backward(nb::handle x, nb::handle state, nb::handle recurrent, nb::handle zoneout,
                                 nb::handle saved, nb::handle dy, nb::handle dh_n, const nb::sequence& wanted,
                                 StepRecords* records, int32_t threads) const {
  check_threads(threads);
  check();
  StepCall call = form_;
  Reader reader;
  Masks masks;
  StepGradients given{};
  const bool fits =
      call.read_input(x, weights_, kTrainedStepRows, reader) && call.read_weights(weights_, reader) &&
      call.read_state(state, reader) && masks.read(call, recurrent, zoneout, reader) &&
      call.read_as(saved, "saved", {Saved(call).size(call.L)}, reader, given.saved) &&
      (dy.is_none() || call.read_output(dy, "dy", reader, given.dy)) &&
      (dh_n.is_none() || call.read_states(dh_n, "dh_n", reader, given.dh_n)) &&
      (records == nullptr || records->fits(call)) && static_cast<int64_t>(nb::len(wanted)) >= 2;
  if (!fits) {
    throw std::runtime_error("what backward is given is not what forward was: tensors of other sizes or dtypes");
  }
  nb::list made;
  made.append(nb::cast<bool>(wanted[0]) ? call.new_input(given.dx) : nb::none());
  made.append(nb::cast<bool>(wanted[1]) && call.state.there ? call.new_states(given.dh0) : nb::none());
  given.weights.resize(static_cast<size_t>(call.count()));
  given.records = records;
  if (records != nullptr) records->begin(call.B, threads);
  const bool has_weights = static_cast<int64_t>(nb::len(wanted)) == 2 + call.count();
  for (int64_t i = 0; i < call.count() && has_weights && records == nullptr; ++i) {
    const auto at = static_cast<size_t>(i);
    View view;
    made.append(nb::cast<bool>(wanted[2 + at]) ? call.new_gradient(weights_[at], i, view) : nb::none());
    given.weights[at] = view.data;
  }
  run_unlocked(2 * call.products(), [&] {
    call.is_double() ? run_backward<double>(call, masks, given, threads)
                     : run_backward<float>(call, masks, given, threads);
  });
  return made;
}

void define_step_training(nb::module_& m) {
  nb::class_<StepWeights>(m, "StepWeights", "A stack's weights as the steps of one graph use them.")
      .def(nb::init<nb::object, int64_t, const nb::list&, bool>(), "variant"_a, "layers"_a, "weights"_a, "is_cell"_a)
      .def("fits", &StepWeights::fits, "variant"_a, "weights"_a, "is_cell"_a,
           "Whether these are the same weights, in the same use: none was replaced, no matrix written to.")
      .def("check", &StepWeights::check, "Raises RuntimeError, in torch's words, where a matrix was written to.")
      .def_prop_ro("wants_any", &StepWeights::wants_any, "Whether a gradient of one of them is wanted.")
      .def("forward", &StepWeights::forward, "x"_a, "state"_a.none(), "draw"_a.none(), "threads"_a,
           "One step, whose layers are of one size: y in the form of x (None for a cell), the next state, what "
           "backward needs, and what `draw` returned; tensors as in step. draw: called once all fit, returns the masks "
           "of a single layer, recurrent as h_n and zoneout as y. None, with nothing done, where another way must be "
           "taken.")
      .def("backward", &StepWeights::backward, "x"_a, "state"_a.none(), "recurrent"_a.none(), "zoneout"_a.none(),
           "saved"_a, "dy"_a.none(), "dh_n"_a.none(), "wanted"_a, "records"_a.none().lock(), "threads"_a,
           "The gradients of x and the state, None where not wanted; where `wanted` tells of the weights too and no "
           "records take what they are made of, theirs after them. RuntimeError where the tensors are not those of the "
           "forward pass.")
      .def("double_backward", &StepWeights::double_backward, "x"_a, "state"_a.none(), "saved"_a, "dy"_a.none(),
           "dh_n"_a.none(), "cotangents"_a, "wanted"_a, "threads"_a,
           "The gradients of the gradients that backward gives of a single layer's step: of dy, dh_n, x, the state and "
           "the weights, None where not wanted or not there. cotangents: those of the gradients of x, the state and "
           "the weights, None for zeros. None, with nothing done, where another way must be taken: for layers that "
           "are not plain, and for tensors that are not such.");
  nb::class_<StepRecords>(m, "StepRecords",
                          "What the steps of one backward pass leave for the gradients of a stack's weights, which are "
                          "made of them together: at most 256 rows, or those of one step, are kept at once.")
      .def(nb::init<const StepWeights&>(), "weights"_a)
      .def("finish", &StepRecords::finish, nb::lock_self(), "The weights' gradients, None where not wanted.");
}

}  // namespace fastgru::binding
