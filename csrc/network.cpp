#include "network.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "dispatch.h"
#include "parameters.h"
#include "places.h"
#include "run.h"

namespace fastgru {
namespace {

template <class Real>
void copy(const Real* from, int64_t count, Real* to) noexcept {
  std::memcpy(to, from, static_cast<size_t>(count) * sizeof(Real));
}

template <class Real>
void zero_padding(const Sequences<Real>& call, int64_t width) noexcept {
  for (int64_t b = 0; call.lengths && b < call.B; ++b) {
    for (int64_t t = call.lengths[b]; t < call.T; ++t) {
      std::fill_n(call.y.data + t * call.y.time + b * call.y.batch, width, Real(0));
    }
  }
}

// What a call needs beside the kernels' scratch.
template <class Real>
struct Workspace {
  Real *between[2], *start, *last;  // outputs of layers but the last, in turns; a layer's h0 and h_n

  // The thread's own, valid until its next call.
  Workspace(const NetworkSpec& spec, const Sequences<Real>& call) {
    const int64_t largest = *std::max_element(spec.hidden.begin(), spec.hidden.end());
    const int64_t output = call.T * call.B * spec.D * largest, state = call.B * spec.D * largest;
    const int64_t outputs = std::min<int64_t>(spec.layers() - 1, 2);
    const auto elements = static_cast<size_t>(outputs * output + 2 * state);
    auto* memory = static_cast<Real*>(thread_arena(ArenaUse::outputs).reserve(elements * sizeof(Real)));
    start = memory;
    last = start + state;
    between[0] = last + state;
    between[1] = between[0] + (outputs > 1 ? output : 0);
  }
  ~Workspace() { thread_arena(ArenaUse::outputs).trim(); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
};

template <class Real>
class RealPacker : public Packer<Real> {
 public:
  RealPacker(const NetworkSpec& spec, const Real* const* weights) noexcept : spec_(spec), weights_(weights) {}
  int64_t elements(int64_t I, int64_t H) const noexcept override { return kernels_.packed_elements(I, H); }
  void pack(int64_t layer, int64_t d, int64_t I, int64_t H, Real* to) const noexcept override {
    const Real* const* own = weights_ + (layer * spec_.D + d) * spec_.weights_per_direction();
    const auto weight = [&](int64_t i) { return own[i]; };
    kernels_.pack(parameters_of<const Real>(spec_.form, spec_.bias, weight), spec_.form, I, H, to);
  }

 private:
  const Kernels<Real>& kernels_ = active_kernels<Real>();
  const NetworkSpec& spec_;
  const Real* const* weights_;
};

}  // namespace

int64_t NetworkSpec::columns(int64_t i) const noexcept {
  const int64_t kind = i % weights_per_direction(), layer = i / (D * weights_per_direction());
  return kind == 0 ? inputs(layer) : kind == 1 ? size(layer) : 0;
}

bool NetworkSpec::has_one_size() const noexcept {
  return std::all_of(hidden.begin(), hidden.end(), [&](int64_t H) { return H == hidden[0]; });
}

int64_t NetworkSpec::sum_of_sizes() const noexcept { return std::accumulate(hidden.begin(), hidden.end(), int64_t{0}); }

template <class Real>
Network<Real>::Network(const NetworkSpec& spec, const Real* const* weights, const Real* initial)
    : Network(spec, active_kernels<Real>(), RealPacker<Real>(spec, weights), initial) {}

template <class Real>
Network<Real>::Network(const NetworkSpec& spec, const ForwardKernels<Real>& kernels, const Packer<Real>& packer,
                       const Real* initial)
    : kernels_(kernels), spec_(spec), layers_(spec.hidden.size()) {
  const int64_t L = spec_.layers(), D = spec_.D, sum = spec_.sum_of_sizes();
  const bool one_size = spec_.has_one_size();
  int64_t offset = 0;
  for (int64_t l = 0; l < L; ++l) {
    Layer& layer = layers_[static_cast<size_t>(l)];
    const int64_t I = spec_.inputs(l), H = spec_.size(l);
    ForwardArgs<Real>& args = layer.args;
    args = {};
    args.I = I;
    args.H = H;
    args.D = D;
    args.form = spec_.form;
    args.noise.keep = static_cast<Real>(1 - spec_.zoneout);
    args.trusted = true;
    if (initial) layer.initial = Buffer<Real>(static_cast<size_t>(D * H));
    for (int64_t d = 0; d < D; ++d) {
      layer.packed[d] = Buffer<Real>(static_cast<size_t>(packer.elements(I, H)));
      packer.pack(l, d, I, H, layer.packed[d].data());
      args.packed[d] = layer.packed[d].data();
      if (initial) copy(one_size ? initial + (l * D + d) * H : initial + d * sum + offset, H, layer.initial.data() + d * H);
    }
    args.resets.initial = layer.initial.data();
    offset += H;
  }
}

template <class Real>
int64_t Network<Real>::work() const noexcept {
  int64_t products = 0;
  for (const Layer& layer : layers_) products += layer.args.D * 3 * layer.args.H * (layer.args.I + layer.args.H);
  return products;
}

// h0 of a layer whose part begins at `offset` of a row of a call's h0.
template <class Real>
const Real* Network<Real>::start_of(int64_t layer, int64_t offset, const Sequences<Real>& call,
                                    Real* scratch) const noexcept {
  const int64_t B = call.B, D = spec_.D, H = spec_.size(layer), sum = spec_.sum_of_sizes();
  if (call.h0 && spec_.has_one_size()) return call.h0 + layer * D * B * H;
  if (!call.h0 && !initial(layer)) return nullptr;
  for (int64_t d = 0; d < D; ++d) {
    for (int64_t b = 0; b < B; ++b) {
      copy(call.h0 ? call.h0 + (d * B + b) * sum + offset : initial(layer) + d * H, H, scratch + (d * B + b) * H);
    }
  }
  return scratch;
}

template <class Real>
void Network<Real>::forward(const Sequences<Real>& call, int32_t threads) const {
  const int64_t L = spec_.layers(), D = spec_.D, B = call.B, sum = spec_.sum_of_sizes();
  const bool one_size = spec_.has_one_size();
  Places places;
  if (call.lengths) {
    sort_sequences({call.lengths, call.lengths + B}, places);
    places.batch = places.order;
  } else {
    places.T = call.T;
    places.B = B;
  }
  const Workspace<Real> work(spec_, call);
  Series<const Real> x = call.x;
  int64_t offset = 0;
  for (int64_t l = 0; l < L; ++l) {
    const int64_t H = spec_.size(l), width = D * H;
    ForwardArgs<Real> args = at(l).args;
    args.steps = places.steps();
    args.x = x;
    args.h0 = start_of(l, offset, call, work.start);
    args.resets.at = call.resets;
    args.y = l == L - 1 ? call.y : Series<Real>{work.between[l % 2], B * width, width};
    args.h_n = one_size ? call.h_n + l * D * B * H : work.last;
    const int32_t team = kernels_.forward_threads(args, threads);
    run_kernel(args, kernels_.forward_scratch(args, team), team, kernels_.forward);
    for (int64_t row = 0; !one_size && row < D * B; ++row) copy(work.last + row * H, H, call.h_n + row * sum + offset);
    x = {args.y.data, args.y.time, args.y.batch};
    offset += H;
  }
  zero_padding(call, spec_.outputs());
}

template <class Real>
Stream<Real>::Stream(std::shared_ptr<const Network<Real>> network, int64_t batch)
    : network_(std::move(network)), B_(batch) {
  const NetworkSpec& spec = network_->spec();
  int64_t elements = 0;
  for (const int64_t H : spec.hidden) {
    offsets_.push_back(elements);
    elements += B_ * H;
  }
  for (Buffer<Real>& states : states_) states = Buffer<Real>(static_cast<size_t>(elements));
  const int64_t largest = *std::max_element(spec.hidden.begin(), spec.hidden.end());
  between_ = Buffer<Real>(static_cast<size_t>(2 * B_ * largest));
  reset();
}

template <class Real>
void Stream<Real>::step(const Real* x, Real* y, int32_t threads) {
  const ForwardKernels<Real>& kernels = network_->kernels();
  const int64_t L = network_->spec().layers();
  for (int64_t l = 0; l < L; ++l) {
    ForwardArgs<Real> args = network_->args(l);
    args.steps = {1, B_, nullptr, nullptr, nullptr, nullptr, nullptr};
    args.x = {x, 0, args.I};
    args.h0 = state(l);
    Real* output = l == L - 1 ? y : between_.data() + (l % 2 == 0 ? 0 : between_.size() / 2);
    args.y = {output, 0, args.H};
    args.h_n = states_[1 - now_].data() + offsets_[static_cast<size_t>(l)];
    const int32_t team = threads == 1 ? 1 : kernels.forward_threads(args, threads);
    run_kernel(args, kernels.forward_scratch(args, team), team, kernels.forward);
    x = output;
  }
  now_ = 1 - now_;
}

template <class Real>
void Stream<Real>::reset() noexcept {
  for (int64_t row = 0; row < B_; ++row) reset(row);
}

template <class Real>
void Stream<Real>::reset(int64_t row) noexcept {
  const NetworkSpec& spec = network_->spec();
  for (int64_t l = 0; l < spec.layers(); ++l) {
    const int64_t H = spec.size(l);
    const Real* initial = network_->initial(l);
    initial ? copy(initial, H, state(l) + row * H) : static_cast<void>(std::fill_n(state(l) + row * H, H, Real(0)));
  }
}

template <class Real>
void Stream<Real>::get_state(Real* to) const noexcept {
  const NetworkSpec& spec = network_->spec();
  const int64_t sum = spec.sum_of_sizes();
  const bool one_size = spec.has_one_size();
  for (int64_t l = 0, offset = 0; l < spec.layers(); offset += spec.size(l), ++l) {
    const int64_t H = spec.size(l);
    for (int64_t b = 0; b < B_; ++b) copy(state(l) + b * H, H, one_size ? to + (l * B_ + b) * H : to + b * sum + offset);
  }
}

template <class Real>
void Stream<Real>::set_state(const Real* from) noexcept {
  const NetworkSpec& spec = network_->spec();
  const int64_t sum = spec.sum_of_sizes();
  const bool one_size = spec.has_one_size();
  for (int64_t l = 0, offset = 0; l < spec.layers(); offset += spec.size(l), ++l) {
    const int64_t H = spec.size(l);
    for (int64_t b = 0; b < B_; ++b) {
      copy(one_size ? from + (l * B_ + b) * H : from + b * sum + offset, H, state(l) + b * H);
    }
  }
}

template class Network<float>;
template class Stream<float>;
#ifndef FASTGRU_INFERENCE_ONLY
template class Network<double>;
template class Stream<double>;
#endif

}  // namespace fastgru
