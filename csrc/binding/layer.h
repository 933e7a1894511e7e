// A layer as fastgru.core.layer.Layer has it, read and checked: what fits together does so from here on.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "dispatch.h"
#include "gru.h"
#include "low_dispatch.h"
#include "packed_cache.h"
#include "parameters.h"
#include "places.h"
#include "tensor.h"

namespace fastgru::binding {

struct Layer {
  nb::handle like;     // x as Python gave it: results are made by its new_empty
  nb::handle tensors;  // the weights as Python gave them
  Form form;
  bool bias, reverse;
  double keep;
  int64_t tbptt;
  int64_t I, H, D;
  int64_t rows;  // of x, and of what is saved for each direction
  Places places;
  View lengths;  // there: x and y have padding
  View x, h0, initial, resets, recurrent, zoneout;
  std::vector<View> weights;  // [D * per_direction]
  int64_t per_direction;
  Precision precision;  // of the weights
  bool bf16;            // float products are of bfloat16, where there are kernels for it
  PackedOwner* packed;  // null: the layer has no owner
  bool doubts;          // it is frozen, and torch has counted changes since

  bool is_double() const noexcept { return x.dtype.bits == 64; }
  bool has_steps() const noexcept { return x.ndim == 3; }  // [T, B, ...], not rows [N, ...]
  int64_t saved_size() const noexcept { return saved_pitch(form, H); }
  // Products of numbers in a forward pass: how long it will take.
  int64_t work() const noexcept { return rows * D * 3 * H * (I + H); }
};

// Reads what fastgru.core.spec.Variant says into a layer. Raises ValueError where it is none.
void read_variant(nb::handle given, Layer& layer);

// Reads a Layer. The reader holds what had to be copied. Raises TypeError, ValueError or RuntimeError, in words, where
// anything is not what fastgru.core.layer and fastgru.core.steps say. low: of weights of few bits, and x is float32; else
// of x's dtype.
Layer read_layer(nb::handle given, Reader& reader, bool low = false);

// x.new_empty of x's rows, of `width` numbers each.
nb::object new_rows(const Layer& layer, int64_t width, View& view);

// What torch counts of changes to each tensor; kNoVersion for those of which it counts none.
constexpr int64_t kNoVersion = -1;
std::vector<int64_t> versions_of(nb::handle tensors);

// Those that compute the layer.
template <class Real>
const Kernels<Real>& kernels_for(const Layer& layer) {
  if constexpr (sizeof(Real) == 4) {
    const Kernels<float>* rounding = layer.bf16 ? rounding_kernels() : nullptr;
    if (rounding) return *rounding;
  }
  return active_kernels<Real>();
}

// Makes a call of a frozen owner's layer trust its packed weights. Raises RuntimeError where they have changed.
template <class Real>
void trust_frozen(const PackedOwner* owner, bool doubts, const Kernels<Real>& kernels, ForwardArgs<Real>& args) {
  if (!owner || !owner->frozen() || owner->frozen()->lend(kernels, args, doubts)) return;
  throw std::runtime_error(
      "the weights of a frozen layer have changed; call fastgru.unfreeze(model) before, and freeze it again");
}

// A tensor of the layer's dtype and of such sizes, or None.
View read_as(const Layer& layer, Reader& reader, nb::handle tensor, const char* name,
             std::initializer_list<int64_t> sizes, Layout layout);

// One that has x's rows, of `width` numbers each.
View read_rows(const Layer& layer, Reader& reader, nb::handle tensor, const char* name, int64_t width);

// The resets, and with tbptt the bits that stop the gradient alone, as Resets of gru.h has them: [rows], one byte each.
std::vector<uint8_t> cut_resets(const Layer& layer);

// Zeroes the rows of a tensor [T, B, width] at which no sequence has a step.
void zero_padding(const Layer& layer, const View& tensor);

template <class Real>
Series<Real> series(const View& view) noexcept {
  if (!view.there) return {nullptr, 0, 0};
  return {static_cast<Real*>(view.data), view.strides[0], view.strides[view.ndim == 3 ? 1 : 0]};
}

// Those of all directions.
template <class Real>
void set_parameters(const Layer& layer, const std::vector<View>& from, Parameters<Real> (&to)[2]) noexcept {
  for (int64_t d = 0; d < layer.D; ++d) {
    const View* own = from.data() + d * layer.per_direction;
    to[d] = parameters_of<Real>(layer.form, layer.bias, [&](int64_t i) { return own[i].data; });
  }
}

// What ForwardArgs and BackwardArgs have in common. `layer` must outlive it.
template <class Args, class Real>
void set_layer(const Layer& layer, Args& args) noexcept {
  args.I = layer.I;
  args.H = layer.H;
  args.D = layer.D;
  args.form = layer.form;
  args.reverse = layer.reverse;
  args.steps = layer.places.steps();
  args.x = series<const Real>(layer.x);
  args.h0 = static_cast<const Real*>(layer.h0.data);
  args.resets.at = series<const uint8_t>(layer.resets);
  args.resets.initial = static_cast<const Real*>(layer.initial.data);
  args.noise.recurrent = static_cast<const Real*>(layer.recurrent.data);
  args.noise.zoneout = series<const Real>(layer.zoneout);
  args.noise.keep = static_cast<Real>(layer.keep);
  if (layer.precision == Precision::full) set_parameters(layer, layer.weights, args.parameters);
}

}  // namespace fastgru::binding
