// Single steps: what they read, and those of inference.
#pragma once

#include <cstdint>
#include <vector>

#include "layer.h"
#include "passes.h"
#include "tensor.h"

namespace fastgru::binding {

// A step of a stack of layers of one size. Its tensors are read and checked by the methods below, in their order; each
// returns false where another way must be taken, for whoever goes it to do so or to say what is wrong.
struct StepCall {
  int64_t L = 1, D = 1;
  Form form = Form::after;
  bool bias = true;
  double keep = 1;
  bool is_cell = false;  // the state has no layers: [B, H] beside x [B, I]

  int64_t B = 0, I = 0, H = 0;
  View x, state;  // [I], [B, I] or [1, B, I]; [L * D, B, H], [L * D, H] beside [I], or not there: zero
  std::vector<const void*> weights;
  std::vector<const PackedOwner*> frozen;  // each layer's, or empty: none is
  bool doubts = false;                     // torch has counted changes to frozen weights

  int64_t per_direction() const noexcept { return 2 + (bias ? 2 : 0) + (form == Form::normed ? 2 : 0); }
  int64_t count() const noexcept { return L * D * per_direction(); }  // of weights
  int64_t inputs(int64_t layer) const noexcept { return layer == 0 ? I : D * H; }
  // Weight number i is [3H, columns], or [3H] where it is no matrix and they are 0.
  bool is_matrix(int64_t i) const noexcept { return i % per_direction() < 2; }
  int64_t columns(int64_t i) const noexcept {
    const int64_t kind = i % per_direction();
    return kind == 0 ? inputs(i / (D * per_direction())) : kind == 1 ? H : 0;
  }
  int64_t products() const noexcept { return B * D * 3 * H * (I + H + (L - 1) * (D + 1) * H); }
  bool is_batched() const noexcept { return x.ndim > 1; }
  bool is_double() const noexcept { return x.dtype.bits == 64; }

  // Owners as Python has them: a sequence of PackedWeights, each frozen, or None.
  void read_frozen(nb::handle owners, const nb::list& all_weights);
  // x, and of the first weight [3H, I] its rows. `most`: sequences.
  bool read_input(nb::handle input, const nb::list& all_weights, int64_t most, Reader& reader);
  bool read_weights(const nb::list& all_weights, Reader& reader);
  bool read_state(nb::handle states, Reader& reader);
  // A dense tensor of x's dtype and of such sizes.
  bool read_as(nb::handle tensor, const char* name, std::initializer_list<int64_t> sizes, Reader& reader,
               View& view) const;
  // One that has x's rows, of `width` numbers each; one that has the form of y or of h_n.
  bool read_rows(nb::handle tensor, const char* name, int64_t width, Reader& reader, View& view) const;
  bool read_output(nb::handle tensor, const char* name, Reader& reader, View& view) const;
  bool read_states(nb::handle tensor, const char* name, Reader& reader, View& view) const;

  // Empty tensors of those forms.
  nb::object new_output(View& view) const { return new_rows(D * H, view); }
  nb::object new_input(View& view) const { return is_dense_x_ ? empty_like(like_, view) : new_rows(I, view); }
  nb::object new_states(View& view) const;
  // An empty tensor for the gradient of weight number i.
  nb::object new_gradient(nb::handle weight, int64_t i, View& view) const {
    return columns(i) == 0 ? new_empty(weight, {3 * H}, view) : new_empty(weight, {3 * H, columns(i)}, view);
  }

  // A layer's or its gradients' parameters, in torch's order, as those of gru.h.
  template <class Real>
  void set_parameters(int64_t layer, const void* const* from, Parameters<Real> (&to)[2]) const noexcept {
    for (int64_t d = 0; d < D; ++d) {
      const void* const* own = from + (layer * D + d) * per_direction();
      to[d] = parameters_of<Real>(form, bias, [&](int64_t i) { return const_cast<void*>(own[i]); });
    }
  }

  // What both passes of a layer have in common.
  template <class Args, class Real>
  void set_layer(int64_t layer, const Real* input, Args& args) const noexcept {
    args.I = inputs(layer);
    args.H = H;
    args.D = D;
    args.form = form;
    args.steps = {1, B, nullptr, nullptr, nullptr, nullptr, nullptr};
    args.noise.keep = static_cast<Real>(keep);
    set_parameters(layer, weights.data(), args.parameters);
    args.x = {input, 0, args.I};
    args.h0 = state.there ? static_cast<const Real*>(state.data) + layer * D * B * H : nullptr;
  }

 private:
  nb::handle like_;  // x as Python gave it
  bool is_dense_x_ = false;
  nb::handle like_states_;  // a dense state in the form of h_n, or none

  nb::object new_rows(int64_t width, View& view) const;
};

// Masks are of a single layer.
struct Masks {
  View recurrent, zoneout;

  bool read(const StepCall& call, nb::handle given_recurrent, nb::handle given_zoneout, Reader& reader) {
    const bool any = !given_recurrent.is_none() || !given_zoneout.is_none();
    if (any && call.L != 1) return false;
    return (given_recurrent.is_none() || call.read_states(given_recurrent, "recurrent", reader, recurrent)) &&
           (given_zoneout.is_none() || call.read_output(given_zoneout, "zoneout", reader, zoneout));
  }

  template <class Args, class Real>
  void set(Args& args) const noexcept {
    args.noise.recurrent = static_cast<const Real*>(recurrent.data);
    if (zoneout.there) args.noise.zoneout = {static_cast<const Real*>(zoneout.data), 0, args.D * args.H};
  }
};

// Adds step and cell_step to a module.
void define_step(nb::module_& m);

}  // namespace fastgru::binding
