// A stack of GRU layers for inference, whose weights are its own: packed once, and trusted from then on.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gru.h"
#include "memory.h"
#include "parameters.h"

namespace fastgru {

// A stack's sizes and options, all >= 1 and in their ranges.
struct NetworkSpec {
  int64_t I = 1;
  std::vector<int64_t> hidden;  // H of each layer
  int64_t D = 1;
  Form form = Form::after;
  bool bias = true;
  double zoneout = 0;  // the probability of it in training
  Precision precision = Precision::full;

  int64_t layers() const noexcept { return static_cast<int64_t>(hidden.size()); }
  int64_t size(int64_t layer) const noexcept { return hidden[static_cast<size_t>(layer)]; }
  int64_t inputs(int64_t layer) const noexcept { return layer == 0 ? I : D * size(layer - 1); }
  int64_t outputs() const noexcept { return D * hidden.back(); }
  int64_t weights_per_direction() const noexcept { return weights_of(form, bias, precision); }
  int64_t weights() const noexcept { return layers() * D * weights_per_direction(); }
  // Weight number i: [3H, columns], or [3H] where columns are 0.
  int64_t rows(int64_t i) const noexcept { return 3 * size(i / (D * weights_per_direction())); }
  int64_t columns(int64_t i) const noexcept;
  bool has_one_size() const noexcept;
  int64_t sum_of_sizes() const noexcept;
  // Numbers of one sequence in h0 and h_n: [L * D, B, H], or [D, B, sum of H] where the layers' sizes differ.
  int64_t states() const noexcept { return D * sum_of_sizes(); }
};

// What a network reads and writes in a call; T and B >= 1.
template <class Real>
struct Sequences {
  int64_t T, B;
  Series<const Real> x;        // [T, B, I]
  const Real* h0;              // as NetworkSpec::states says, or null: the learned initial state, or zero
  const int64_t* lengths;      // [B], from 0 to T, or null: all T
  Series<const uint8_t> resets;  // [T, B, 1]: not 0 where a sequence starts anew; data null: nowhere
  Series<Real> y;              // [T, B, D * H], zero where a sequence has no step
  Real* h_n;
};

// Who packs a network's weights.
template <class Real>
struct Packer {
  virtual ~Packer() = default;
  virtual int64_t elements(int64_t I, int64_t H) const noexcept = 0;
  virtual void pack(int64_t layer, int64_t direction, int64_t I, int64_t H, Real* to) const noexcept = 0;
};

// Immutable: any number of threads may use one at once.
template <class Real>
class Network {
 public:
  // weights: layer by layer, forward before reverse, each w_ih, w_hh, with bias b_ih, b_hh, with Form::normed g_ih, g_hh,
  // dense; initial: the learned initial state [L * D, H], or [D, sum of H] where the sizes differ, or null. All are
  // copied. Throws std::bad_alloc.
  Network(const NetworkSpec& spec, const Real* const* weights, const Real* initial);
  // Of weights that these kernels run as the packer leaves them.
  Network(const NetworkSpec& spec, const ForwardKernels<Real>& kernels, const Packer<Real>& packer, const Real* initial);

  const NetworkSpec& spec() const noexcept { return spec_; }
  bool learned_initial_state() const noexcept { return !layers_[0].initial.empty(); }
  // [D, H] of a layer, or null: zero.
  const Real* initial(int64_t layer) const noexcept { return at(layer).initial.data(); }
  // Products of numbers in a step of one sequence: how long it will take.
  int64_t work() const noexcept;

  // Throws std::bad_alloc.
  void forward(const Sequences<Real>& call, int32_t threads) const;

  // What a layer's calls have in common.
  const ForwardArgs<Real>& args(int64_t layer) const noexcept { return at(layer).args; }
  const ForwardKernels<Real>& kernels() const noexcept { return kernels_; }

 private:
  struct Layer {
    Buffer<Real> packed[2], initial;
    ForwardArgs<Real> args;
  };

  const Layer& at(int64_t layer) const noexcept { return layers_[static_cast<size_t>(layer)]; }
  const Real* start_of(int64_t layer, int64_t offset, const Sequences<Real>& call, Real* scratch) const noexcept;

  const ForwardKernels<Real>& kernels_;
  const NetworkSpec spec_;
  std::vector<Layer> layers_;
};

// B sequences of a network of one direction, a step at a time; it holds their states. One thread at a time.
template <class Real>
class Stream {
 public:
  Stream(std::shared_ptr<const Network<Real>> network, int64_t batch);

  const Network<Real>& network() const noexcept { return *network_; }
  int64_t batch() const noexcept { return B_; }
  // x [B, I], y [B, H]. Allocates nothing after a thread's first call. Throws std::bad_alloc.
  void step(const Real* x, Real* y, int32_t threads);
  // To the initial state: of all sequences, or of one.
  void reset() noexcept;
  void reset(int64_t row) noexcept;
  // As NetworkSpec::states says.
  void get_state(Real* to) const noexcept;
  void set_state(const Real* from) noexcept;

 private:
  Real* state(int64_t layer) noexcept { return states_[now_].data() + offsets_[static_cast<size_t>(layer)]; }
  const Real* state(int64_t layer) const noexcept { return states_[now_].data() + offsets_[static_cast<size_t>(layer)]; }

  const std::shared_ptr<const Network<Real>> network_;
  const int64_t B_;
  std::vector<int64_t> offsets_;     // of each layer in a state
  Buffer<Real> states_[2], between_;  // now and next, [L][B, H]; what a layer hands to the next, two of them
  int now_ = 0;
};

extern template class Network<float>;
extern template class Network<double>;
extern template class Stream<float>;
extern template class Stream<double>;

}  // namespace fastgru
