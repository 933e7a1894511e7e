// The weights that single steps in training share, and the passes over one of their steps.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "step.h"

namespace fastgru::binding {

class StepRecords;

// What the forward pass saves, in one tensor: the kernel's, layer by layer, then the inputs of layers but the first.
struct Saved {
  int64_t layer, input;  // numbers each

  explicit Saved(const StepCall& call)
      : layer(call.D * call.B * saved_pitch(call.form, call.H)), input(call.B * call.D * call.H) {}
  int64_t size(int64_t layers) const noexcept { return layers * layer + (layers - 1) * input; }
  // Input of layer l >= 1.
  int64_t input_at(int64_t layers, int64_t l) const noexcept { return layers * layer + (l - 1) * input; }
};

// A stack's weights as the steps of one graph use them: the same tensors, which want gradients as they did, and
// matrices that were not written to.
class StepWeights {
 public:
  StepWeights(nb::object variant, int64_t layers, const nb::list& weights, bool is_cell)
      : variant_(std::move(variant)) {
    if (!set_form(layers) || static_cast<int64_t>(weights.size()) != form_.count()) {
      throw nb::value_error("the weights are not those of a stack of such layers");
    }
    if (is_cell && form_.L * form_.D != 1) throw nb::value_error("a cell has one layer of one direction");
    form_.is_cell = is_cell;
    for (int64_t i = 0; i < form_.count(); ++i) {
      const nb::handle weight = weights[static_cast<size_t>(i)];
      weights_.append(weight);
      wanted_.push_back(wants_gradient(weight));
      versions_.push_back(form_.is_matrix(i) ? version_of(weight) : 0);
    }
  }

  bool fits(nb::handle variant, const nb::list& weights, bool is_cell) const {
    if (weights.size() != weights_.size() || is_cell != form_.is_cell || !variant_.equal(variant)) return false;
    for (size_t i = 0; i < weights_.size(); ++i) {
      if (!weights[i].is(weights_[i]) || wants_gradient(weights[i]) != wanted_[i]) return false;
    }
    return changed() < 0;
  }

  // Raises, in torch's words, where a matrix was written to since it was used: backward reads it.
  void check() const {
    const int64_t i = changed();
    if (i < 0) return;
    const auto at = static_cast<size_t>(i);
    View view;
    const std::string shape = read_header(weights_[at], view) ? described(view) : "of another kind";
    throw std::runtime_error(
        "one of the variables needed for gradient computation has been modified by an inplace operation: a GRU's "
        "weight " + shape + " is at version " + std::to_string(version_of(weights_[at])) + "; expected version " +
        std::to_string(versions_[at]) + " instead. Hint: enable anomaly detection to find the operation that failed to "
        "compute its gradient, with torch.autograd.set_detect_anomaly(True).");
  }

  bool wants_any() const noexcept {
    return std::any_of(wanted_.begin(), wanted_.end(), [](bool want) { return want; });
  }

  nb::object forward(nb::handle x, nb::handle state, nb::handle draw, int32_t threads) const;
  nb::object backward(nb::handle x, nb::handle state, nb::handle recurrent, nb::handle zoneout, nb::handle saved,
                      nb::handle dy, nb::handle dh_n, const nb::sequence& wanted, StepRecords* records,
                      int32_t threads) const;
  nb::object double_backward(nb::handle x, nb::handle state, nb::handle saved, nb::handle dy, nb::handle dh_n,
                             const nb::sequence& cotangents, const nb::sequence& wanted, int32_t threads) const;

  const StepCall& form() const noexcept { return form_; }
  const nb::list& weights() const noexcept { return weights_; }
  const std::vector<bool>& wanted() const noexcept { return wanted_; }

 private:
  bool set_form(int64_t layers) {
    if (layers < 1) return false;
    Layer layer{};
    read_variant(variant_, layer);
    if (layer.reverse) return false;
    form_.L = layers;
    form_.D = layer.D;
    form_.form = layer.form;
    form_.bias = layer.bias;
    form_.keep = layer.keep;
    return true;
  }

  static bool wants_gradient(nb::handle weight) {
    static PyObject* const name = PyUnicode_InternFromString("requires_grad");
    return checked_attribute(weight, name).ptr() == Py_True;
  }

  static int64_t version_of(nb::handle weight) {
    static PyObject* const name = PyUnicode_InternFromString("_version");
    return nb::cast<int64_t>(checked_attribute(weight, name));
  }

  static nb::object checked_attribute(nb::handle weight, PyObject* name) {
    nb::object found = nb::steal(PyObject_GetAttr(weight.ptr(), name));
    if (!found.is_valid()) throw nb::python_error();
    return found;
  }

  // The first matrix that is not what it was, or -1.
  int64_t changed() const {
    for (int64_t i = 0; i < form_.count(); ++i) {
      const auto at = static_cast<size_t>(i);
      if (form_.is_matrix(i) && version_of(weights_[at]) != versions_[at]) return i;
    }
    return -1;
  }

  nb::object variant_;
  StepCall form_;
  nb::list weights_;
  std::vector<bool> wanted_;
  std::vector<int64_t> versions_;
};

}  // namespace fastgru::binding
