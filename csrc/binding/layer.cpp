#include "layer.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace fastgru::binding {
namespace {

// The fields of the named tuples in fastgru.core, in their order.
namespace field {
enum Layer { variant, steps, noise, x, h0, initial, weights, packed, kLayer };
enum Variant { bias, bidirectional, reset_after, keep, tbptt, layer_norm, reverse, memory, bf16, kVariant };
enum Steps { batch_sizes, offsets, lengths, resets, kSteps };
enum Noise { recurrent, zoneout, kNoise };
}  // namespace field

// The fields of a named tuple.
class Fields {
 public:
  Fields(nb::handle tuple, size_t count, const char* name) : tuple_(nb::borrow<nb::tuple>(tuple)) {
    if (nb::isinstance<nb::tuple>(tuple) && tuple_.size() == count) return;
    throw nb::type_error((std::string(name) + " must be a tuple of " + std::to_string(count) + " fields").c_str());
  }
  nb::handle operator[](Py_ssize_t i) const { return tuple_[i]; }
  // By its truth, as Python has it: torch takes bias=1.
  bool flag(Py_ssize_t i) const { return PyObject_IsTrue((*this)[i].ptr()) == 1; }

 private:
  nb::tuple tuple_;
};

// The dtype of weight number i, of few bits.
void expect_low(const View& view, const Layer& layer, int64_t i, const std::string& name) {
  if (i % layer.per_direction >= 2) {
    if (!view.is(dlpack::kFloat, 32)) refuse(name, "float32", view);
  } else if (layer.precision == Precision::int8) {
    if (!view.is(dlpack::kInt, 8)) refuse(name, "int8", view);
  } else if (!view.is(dlpack::kBfloat, 16)) {
    refuse(name, "bfloat16", view);
  }
}

// Which of the two the first weight is of.
void read_precision(const nb::sequence& weights, Reader& reader, Layer& layer) {
  if (nb::len(weights) == 0) throw nb::value_error("weights must be tensors, got none");
  const View first = reader.read(weights[0], "weights[0]", Layout::any);
  layer.precision = first.is(dlpack::kInt, 8) ? Precision::int8 : Precision::bf16;
  layer.per_direction = weights_of(layer.form, layer.bias, layer.precision);
  if (layer.is_double()) refuse("x", "float32", layer.x);
}

void read_weights(nb::handle given, Reader& reader, bool low, Layer& layer) {
  if (!nb::isinstance<nb::sequence>(given)) throw nb::type_error("weights must be a sequence of tensors");
  const auto weights = nb::borrow<nb::sequence>(given);
  if (low) read_precision(weights, reader, layer);
  const auto count = static_cast<int64_t>(nb::len(weights));
  if (count != layer.D * layer.per_direction) {
    throw nb::value_error(("weights must be " + std::to_string(layer.D * layer.per_direction) + " tensors, " +
                           std::to_string(layer.per_direction) + " for each direction, got " + std::to_string(count))
                              .c_str());
  }
  layer.weights.reserve(static_cast<size_t>(count));
  for (const nb::handle weight : weights) {
    const std::string name = "weights[" + std::to_string(layer.weights.size()) + "]";
    layer.weights.push_back(reader.read(weight, name, Layout::dense));
    const View& view = layer.weights.back();
    if (layer.weights.size() == 2 && view.ndim == 2) layer.H = view.sizes[1];
    if (layer.precision == Precision::full) {
      const bool same = view.dtype.code == layer.x.dtype.code && view.dtype.bits == layer.x.dtype.bits;
      if (!same) refuse(name, "of the dtype of x", view);
    } else {
      expect_low(view, layer, static_cast<int64_t>(layer.weights.size() - 1), name);
    }
  }
  if (layer.H < 1) refuse("weights[1]", "[3H, H] with H >= 1", layer.weights[1]);
  for (int64_t i = 0; i < count; ++i) {
    const View& view = layer.weights[static_cast<size_t>(i)];
    const int64_t which = i % layer.per_direction, H3 = 3 * layer.H;
    const bool is_matrix = which < 2;
    const int64_t columns = which == 0 ? layer.I : layer.H;
    if (is_matrix ? view.has_sizes({H3, columns}) : view.has_sizes({H3})) continue;
    refuse("weights[" + std::to_string(i) + "]", is_matrix ? described({H3, columns}) : described({H3}), view);
  }
  if (layer.precision == Precision::int8 && std::max(layer.I, layer.H) > kMostInt8Terms) {
    throw nb::value_error(("int8 sums hold at most " + std::to_string(kMostInt8Terms) + " terms, got sizes of " +
                           std::to_string(layer.I) + " and " + std::to_string(layer.H))
                              .c_str());
  }
}

int64_t number_at(const View& view, int64_t i) noexcept {
  const int64_t at = i * view.strides[0];
  return view.is(dlpack::kInt, 64) ? static_cast<const int64_t*>(view.data)[at]
                                   : static_cast<const int32_t*>(view.data)[at];
}

View read_integers(nb::handle tensor, const char* name, Reader& reader) {
  const View view = reader.fetch(tensor, name, Layout::any);
  if (view.ndim == 1 && (view.is(dlpack::kInt, 64) || view.is(dlpack::kInt, 32))) return view;
  refuse(name, "one-dimensional int64 or int32", view);
}

std::string list_of(const View& view) {
  std::string words;
  for (int64_t i = 0; i < view.sizes[0]; ++i) words += (i == 0 ? "" : ", ") + std::to_string(number_at(view, i));
  return "[" + words + "]";
}

// torch's PackedSequence: how many sequences have each step.
void place_packed(nb::handle batch_sizes, Reader& reader, Layer& layer) {
  const View sizes = reader.read(batch_sizes, "batch_sizes", Layout::any);
  if (sizes.ndim != 1 || !sizes.is(dlpack::kInt, 64)) {
    throw std::runtime_error("batch_sizes must be [T] int64 on the CPU, got " + described(sizes));
  }
  Places& places = layer.places;
  places.T = sizes.sizes[0];
  int64_t sum = 0;
  for (int64_t t = 0; t < places.T; ++t) {
    const int64_t size = number_at(sizes, t);
    if (size < 1 || (t > 0 && size > places.rows.back())) {
      throw std::runtime_error("batch_sizes must be at least 1 and never grow");
    }
    if (size > layer.rows - sum) sum = layer.rows;  // more than there are, which the next ones cannot mend
    places.rows.push_back(size);
    places.first.push_back(sum);
    sum += size;
    if (sum > layer.rows) break;
  }
  if (sum != layer.rows) {
    throw std::runtime_error("batch_sizes promise other rows than the " + std::to_string(layer.rows) +
                             " that there are");
  }
  places.B = places.T ? places.rows[0] : 0;
  places.time = places.first;
}

// Sequences one after the other.
void place_concatenated(nb::handle offsets, Reader& reader, Layer& layer) {
  const View given = read_integers(offsets, "offsets", reader);
  const int64_t B = given.sizes[0] - 1;
  bool fits = B >= 0 && number_at(given, 0) == 0 && number_at(given, B) == layer.rows;
  std::vector<int64_t> lengths;
  for (int64_t b = 0; fits && b < B; ++b) {
    lengths.push_back(number_at(given, b + 1) - number_at(given, b));
    fits = lengths.back() >= 0;
  }
  if (!fits) {
    throw nb::value_error(("offsets must go from 0 to the " + std::to_string(layer.rows) +
                           " rows of the input and never fall, got " + list_of(given))
                              .c_str());
  }
  sort_sequences(lengths, layer.places);
  for (const int64_t b : layer.places.order) layer.places.batch.push_back(number_at(given, b));
}

// Padded sequences.
void place_padded(nb::handle given, Reader& reader, Layer& layer) {
  const int64_t T = layer.x.sizes[0], B = layer.x.sizes[1];
  layer.lengths = read_integers(given, "lengths", reader);
  if (layer.lengths.sizes[0] != B) refuse("lengths", described({B}), layer.lengths);
  std::vector<int64_t> lengths;
  bool fits = true;
  for (int64_t b = 0; fits && b < B; ++b) {
    lengths.push_back(number_at(layer.lengths, b));
    fits = lengths.back() >= 0 && lengths.back() <= T;
  }
  if (!fits) {
    throw nb::value_error(
        ("lengths must be from 0 to T=" + std::to_string(T) + ", got " + list_of(layer.lengths)).c_str());
  }
  sort_sequences(lengths, layer.places);
  layer.places.T = std::min(layer.places.T, T);
  layer.places.batch = layer.places.order;
}

void read_places(const Fields& steps, Reader& reader, Layer& layer) {
  const nb::handle batch_sizes = steps[field::batch_sizes], offsets = steps[field::offsets];
  const nb::handle lengths = steps[field::lengths];
  const int given = !batch_sizes.is_none() + !offsets.is_none() + !lengths.is_none();
  if (given > 1) throw nb::value_error("give one of batch_sizes, offsets and lengths");
  const bool in_rows = !batch_sizes.is_none() || !offsets.is_none();
  if (layer.x.ndim != (in_rows ? 2 : 3)) refuse("x", in_rows ? "[N, I]" : "[T, B, I]", layer.x);
  layer.rows = in_rows ? layer.x.sizes[0] : layer.x.sizes[0] * layer.x.sizes[1];
  if (!batch_sizes.is_none()) {
    place_packed(batch_sizes, reader, layer);
  } else if (!offsets.is_none()) {
    place_concatenated(offsets, reader, layer);
  } else if (!lengths.is_none()) {
    place_padded(lengths, reader, layer);
  } else {
    layer.places.T = layer.x.sizes[0];
    layer.places.B = layer.x.sizes[1];
  }
  if (layer.places.T == 0) throw std::runtime_error("Expected sequence length to be larger than 0 in RNN");
}

// [T, B] bool, or [N] with rows.
void read_resets(nb::handle given, Reader& reader, Layer& layer) {
  if (given.is_none()) return;
  View view = reader.fetch(given, "resets", Layout::any);
  const bool fits = layer.has_steps() ? view.has_sizes({layer.x.sizes[0], layer.x.sizes[1]})
                                      : view.has_sizes({layer.x.sizes[0]});
  if (!fits || !view.is(dlpack::kBool, 8)) {
    refuse("resets",
           (layer.has_steps() ? described({layer.x.sizes[0], layer.x.sizes[1]}) : described({layer.x.sizes[0]})) +
               " bool",
           view);
  }
  view.sizes[static_cast<size_t>(view.ndim)] = 1;  // a series has rows, if of one number
  view.strides[static_cast<size_t>(view.ndim)] = 1;
  ++view.ndim;
  layer.resets = view;
}

}  // namespace

void read_variant(nb::handle given, Layer& layer) {
  const Fields variant(given, field::kVariant, "variant");
  layer.bias = variant.flag(field::bias);
  layer.D = variant.flag(field::bidirectional) ? 2 : 1;
  layer.keep = nb::cast<double>(variant[field::keep]);
  layer.tbptt = nb::cast<int64_t>(variant[field::tbptt]);
  layer.reverse = variant.flag(field::reverse);
  layer.bf16 = variant.flag(field::bf16);
  const bool normed = variant.flag(field::layer_norm), after = variant.flag(field::reset_after);
  if (normed && !after) throw nb::value_error("layer_norm needs reset_after=True");
  if (layer.reverse && layer.D == 2) throw nb::value_error("reverse is of one direction; a layer of two has both");
  if (!(layer.keep >= 0 && layer.keep <= 1)) {
    throw nb::value_error(("keep must be from 0 to 1, got " + std::to_string(layer.keep)).c_str());
  }
  if (layer.tbptt < 0) {
    throw nb::value_error(("tbptt must be a number of steps, or 0, got " + std::to_string(layer.tbptt)).c_str());
  }
  layer.form = normed ? Form::normed : after ? Form::after : Form::before;
  layer.per_direction = weights_of(layer.form, layer.bias, Precision::full);
}

Layer read_layer(nb::handle given, Reader& reader, bool low) {
  const Fields fields(given, field::kLayer, "a layer");
  Layer layer{};
  read_variant(fields[field::variant], layer);
  layer.like = fields[field::x];
  layer.tensors = fields[field::weights];
  layer.x = reader.read(fields[field::x], "x", Layout::rows);
  if (layer.x.dtype.code != dlpack::kFloat || layer.x.dtype.bits < 32) refuse("x", "float32 or float64", layer.x);
  const Fields steps(fields[field::steps], field::kSteps, "steps");
  read_places(steps, reader, layer);
  layer.I = layer.x.sizes[static_cast<size_t>(layer.x.ndim) - 1];
  read_weights(fields[field::weights], reader, low, layer);
  read_resets(steps[field::resets], reader, layer);
  const int64_t B = layer.places.B;
  const Fields noise(fields[field::noise], field::kNoise, "noise");
  layer.h0 = read_as(layer, reader, fields[field::h0], "h0", {layer.D, B, layer.H}, Layout::dense);
  layer.initial = read_as(layer, reader, fields[field::initial], "initial", {layer.D, layer.H}, Layout::dense);
  layer.recurrent =
      read_as(layer, reader, noise[field::recurrent], "recurrent", {layer.D, B, layer.H}, Layout::dense);
  layer.zoneout = read_rows(layer, reader, noise[field::zoneout], "zoneout", layer.D * layer.H);
  if (!low && !fields[field::packed].is_none()) layer.packed = nb::cast<PackedOwner*>(fields[field::packed]);
  if (layer.packed && layer.packed->frozen()) {
    layer.doubts = layer.packed->versions() != versions_of(layer.tensors);
  }
  return layer;
}

nb::object new_rows(const Layer& layer, int64_t width, View& view) {
  const int64_t first = layer.x.sizes[0];
  if (!layer.has_steps()) return new_empty(layer.like, {first, width}, view);
  return new_empty(layer.like, {first, layer.x.sizes[1], width}, view);
}

std::vector<int64_t> versions_of(nb::handle tensors) {
  std::vector<int64_t> versions;
  for (const nb::handle tensor : tensors) {
    PyObject* version = PyObject_GetAttrString(tensor.ptr(), "_version");  // fails for tensors of inference mode
    versions.push_back(version == nullptr ? kNoVersion : PyLong_AsLongLong(version));
    Py_XDECREF(version);
    PyErr_Clear();
  }
  return versions;
}

View read_as(const Layer& layer, Reader& reader, nb::handle tensor, const char* name,
             std::initializer_list<int64_t> sizes, Layout layout) {
  if (tensor.is_none()) return {};
  const View view = reader.read(tensor, name, layout);
  const bool fits = view.has_sizes(sizes) && view.is(layer.x.dtype.code, layer.x.dtype.bits);
  if (!fits) refuse(name, described(sizes) + (layer.is_double() ? " float64" : " float32"), view);
  return view;
}

View read_rows(const Layer& layer, Reader& reader, nb::handle tensor, const char* name, int64_t width) {
  const int64_t first = layer.x.sizes[0];
  if (!layer.has_steps()) return read_as(layer, reader, tensor, name, {first, width}, Layout::rows);
  return read_as(layer, reader, tensor, name, {first, layer.x.sizes[1], width}, Layout::rows);
}

std::vector<uint8_t> cut_resets(const Layer& layer) {
  std::vector<uint8_t> bits(static_cast<size_t>(layer.rows), 0);
  const Steps steps = layer.places.steps();
  const int64_t time = layer.has_steps() ? layer.x.sizes[1] : 1;
  const auto* given = static_cast<const uint8_t*>(layer.resets.data);
  const Series<const uint8_t> from = series<const uint8_t>(layer.resets);
  for (int64_t t = 0; t < steps.T; ++t) {
    const int64_t count = steps.rows ? steps.rows[t] : steps.B;
    const uint8_t cut = t > 0 && t % layer.tbptt == 0 ? Resets<float>::kCut : uint8_t{0};
    for (int64_t b = 0; b < count; ++b) {
      const int64_t step = steps.time ? steps.time[t] : t, sequence = steps.batch ? steps.batch[b] : b;
      uint8_t& to = bits[static_cast<size_t>(step * time + sequence)];
      to = given ? static_cast<uint8_t>((given[step * from.time + sequence * from.batch] != 0) | cut) : cut;
    }
  }
  return bits;
}

void zero_padding(const Layer& layer, const View& tensor) {
  if (!layer.lengths.there) return;
  const int64_t T = tensor.sizes[0], B = tensor.sizes[1];
  const auto bytes = static_cast<int64_t>(tensor.dtype.bits / 8) * tensor.sizes[2];
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t b = 0; b < B; ++b) {
      if (t < number_at(layer.lengths, b)) continue;
      std::memset(static_cast<char*>(tensor.data) + (t * B + b) * bytes, 0, static_cast<size_t>(bytes));
    }
  }
}

}  // namespace fastgru::binding
