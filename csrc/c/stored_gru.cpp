#include "stored_gru.h"

#include <cmath>
#include <cstdlib>
#include <set>

namespace fastgru {
namespace {

using Shape = std::vector<int64_t>;

std::string words_of(const Shape& shape) {
  std::string words;
  for (const int64_t size : shape) words += (words.empty() ? "" : ", ") + std::to_string(size);
  return "[" + words + "]";
}

// The tensors and the options of one GRU.
class Part {
 public:
  Part(const Safetensors& file, const std::string& prefix) : file_(file), prefix_(prefix) {}

  const StoredTensor* find(const std::string& name) const {
    const auto found = file_.tensors().find(prefix_ + name);
    return found == file_.tensors().end() ? nullptr : &found->second;
  }

  const StoredTensor& matrix(const std::string& name) const {
    const StoredTensor* tensor = find(name);
    const bool fits = tensor && tensor->shape.size() == 2 && tensor->shape[0] >= 1 && tensor->shape[1] >= 1;
    if (!fits) throw BadFile(prefix_ + name + " must be a matrix, got " + (tensor ? words_of(tensor->shape) : "none"));
    return *tensor;
  }

  // A tensor of this shape, of which all numbers are finite.
  std::vector<float> read(const std::string& name, const Shape& shape) {
    const StoredTensor* tensor = find(name);
    if (!tensor || tensor->shape != shape) {
      throw BadFile(prefix_ + name + " must be " + words_of(shape) + ", got " +
                    (tensor ? words_of(tensor->shape) : "none"));
    }
    read_.insert(prefix_ + name);
    std::vector<float> numbers = floats_of(prefix_ + name, *tensor);
    for (const float number : numbers) {
      if (!std::isfinite(number)) throw BadFile(prefix_ + name + " holds numbers that are not finite");
    }
    return numbers;
  }

  // What the metadata says of an option, or `otherwise`.
  std::string option(const std::string& name, const std::string& otherwise) const {
    const auto found = file_.metadata().find("fastgru." + prefix_ + name);
    return found == file_.metadata().end() ? otherwise : found->second;
  }

  bool flag(const std::string& name, bool otherwise) const {
    const std::string word = option(name, otherwise ? "true" : "false");
    if (word != "true" && word != "false") refuse_option(name, word);
    return word == "true";
  }

  double probability(const std::string& name) const {
    const std::string word = option(name, "0");
    char* end = nullptr;
    const double value = std::strtod(word.c_str(), &end);
    if (end == word.c_str() || *end != '\0' || !(value >= 0 && value <= 1)) refuse_option(name, word);
    return value;
  }

  // Throws where a tensor under the prefix was not read: it would be passed over.
  void check_all_read() const {
    for (const auto& entry : file_.tensors()) {
      const bool own = entry.first.compare(0, prefix_.size(), prefix_) == 0;
      if (own && read_.count(entry.first) == 0) throw BadFile("no part of a GRU: " + entry.first);
    }
  }

  // Which prefixes have a GRU, in words.
  std::string elsewhere() const {
    std::string words;
    for (const auto& entry : file_.tensors()) {
      for (const std::string end : {"weight_hh_l0", "weight_hh"}) {
        const std::string& name = entry.first;
        const bool fits = name.size() > end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
        if (fits) words += (words.empty() ? "; give prefix, of '" : ", '") + name.substr(0, name.size() - end.size()) + "'";
      }
    }
    return words;
  }

  const std::string& prefix() const noexcept { return prefix_; }

 private:
  [[noreturn]] void refuse_option(const std::string& name, const std::string& word) const {
    throw BadFile("its metadata says fastgru." + prefix_ + name + "='" + word + "', which is none");
  }

  const Safetensors& file_;
  const std::string prefix_;
  std::set<std::string> read_;
};

NetworkSpec spec_of(const Part& part, bool is_cell) {
  NetworkSpec spec;
  const auto named = [&](const std::string& kind, int64_t layer) {
    return is_cell ? kind : kind + "_l" + std::to_string(layer);
  };
  for (int64_t layer = 0; layer == 0 || (!is_cell && part.find(named("weight_hh", layer))); ++layer) {
    spec.hidden.push_back(part.matrix(named("weight_hh", layer)).shape[1]);
  }
  spec.I = part.matrix(named("weight_ih", 0)).shape[1];
  spec.D = part.find("weight_hh_l0_reverse") ? 2 : 1;
  spec.bias = part.find(named("bias_hh", 0)) != nullptr;
  const bool after = part.flag("reset_after", true), normed = part.flag("layer_norm", false);
  if (normed && !after) throw BadFile("its metadata says layer_norm, and reset_after is false: there is no such GRU");
  spec.form = normed ? Form::normed : after ? Form::after : Form::before;
  spec.zoneout = part.probability("zoneout");
  return spec;
}

}  // namespace

StoredGru::StoredGru(const Safetensors& file, const std::string& prefix) {
  Part part(file, prefix);
  const bool is_cell = part.find("weight_hh") != nullptr;
  if (!is_cell && !part.find("weight_hh_l0")) {
    throw BadFile("there is no GRU under '" + prefix + "': no weight_hh_l0" + part.elsewhere());
  }
  spec = spec_of(part, is_cell);
  static constexpr const char* kKinds[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh", "gain_ih", "gain_hh"};
  const int64_t each = spec.weights_per_direction();
  for (int64_t i = 0; i < spec.weights(); ++i) {
    const int64_t layer = i / each / spec.D, kind = i % each + (!spec.bias && i % each >= 2 ? 2 : 0);
    std::string name = kKinds[kind];
    if (!is_cell) name += "_l" + std::to_string(layer) + (i / each % spec.D == 1 ? "_reverse" : "");
    weights.push_back(part.read(name, spec.columns(i) > 0 ? Shape{spec.rows(i), spec.columns(i)} : Shape{spec.rows(i)}));
  }
  if (part.find("initial_state")) {
    initial = part.read("initial_state", spec.has_one_size() ? Shape{spec.layers() * spec.D, spec.size(0)}
                                                             : Shape{spec.D, spec.sum_of_sizes()});
  }
  part.check_all_read();
}

}  // namespace fastgru
