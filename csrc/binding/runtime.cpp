#include "runtime.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <deque>
#include <optional>

#include "array.h"
#include "low_layer.h"
#include "network.h"
#include "passes.h"

using namespace nanobind::literals;

namespace fastgru::binding {
namespace {

constexpr dlpack::DataType kInt64{dlpack::kInt, 64, 1}, kBool{dlpack::kBool, 8, 1};

template <class Real>
constexpr dlpack::DataType kReal{dlpack::kFloat, 8 * sizeof(Real), 1};

using Access = Array::Access;

// Keeps None apart from an array.
class Maybe {
 public:
  Maybe(nb::handle object, const char* name) {
    if (!object.is_none()) array_.emplace(object, name, Access::read);
  }
  const Array* get() const noexcept { return array_ ? &*array_ : nullptr; }

 private:
  std::optional<Array> array_;
};

Form form_of(bool reset_after, bool layer_norm) {
  if (layer_norm && !reset_after) throw nb::value_error("layer_norm needs reset_after=True");
  return layer_norm ? Form::normed : reset_after ? Form::after : Form::before;
}

// h0 and the like must be [L * D, B, H], or [D, B, sum of H] where the layers' sizes differ.
void expect_states(const NetworkSpec& spec, int64_t B, dlpack::DataType dtype, const Array& states) {
  spec.has_one_size() ? states.expect_dense(dtype, {spec.layers() * spec.D, B, spec.size(0)})
                      : states.expect_dense(dtype, {spec.D, B, spec.sum_of_sizes()});
}

// A network of one of the two dtypes.
class AnyNetwork {
 public:
  AnyNetwork(int64_t input_size, const std::vector<int64_t>& hidden_sizes, int64_t directions, bool bias, bool reset_after,
             bool layer_norm, double zoneout, const nb::list& weights, nb::handle initial) {
    NetworkSpec spec;
    spec.I = input_size;
    spec.hidden = hidden_sizes;
    spec.D = directions;
    spec.form = form_of(reset_after, layer_norm);
    spec.bias = bias;
    spec.zoneout = zoneout;
    bool fits = spec.I >= 1 && !spec.hidden.empty() && (directions == 1 || directions == 2);
    for (const int64_t H : spec.hidden) fits = fits && H >= 1;
    if (!fits) throw nb::value_error("sizes must be at least 1, and directions 1 or 2");
    if (!(zoneout >= 0 && zoneout <= 1)) throw nb::value_error("zoneout must be a probability from 0 to 1");
    const bool has_weights = weights.size() > 0;
    if (has_weights) spec.precision = precision_of(Array(weights[0], "a weight", Access::read).view());
    if (static_cast<int64_t>(weights.size()) != spec.weights()) {
      throw nb::value_error(("weights must be " + std::to_string(spec.weights()) + " arrays, got " +
                             std::to_string(weights.size()))
                                .c_str());
    }
    if (spec.precision == Precision::full && Array(weights[0], "a weight", Access::read).view().is(dlpack::kFloat, 64)) {
      f64_ = made<double>(spec, weights, initial);
    } else {
      f32_ = made<float>(spec, weights, initial);
    }
  }

  bool is_double() const noexcept { return f64_ != nullptr; }

  void forward(nb::handle x, nb::handle y, nb::handle h_n, nb::handle h0, nb::handle lengths, nb::handle resets,
               bool batch_first, int32_t threads) const {
    check_threads(threads);
    is_double() ? run(*f64_, x, y, h_n, h0, lengths, resets, batch_first, threads)
                : run(*f32_, x, y, h_n, h0, lengths, resets, batch_first, threads);
  }

  template <class Real>
  const std::shared_ptr<const Network<Real>>& get() const noexcept {
    if constexpr (sizeof(Real) == 8) {
      return f64_;
    } else {
      return f32_;
    }
  }

 private:
  // NumPy has no bfloat16: its bits are uint16 there.
  static Precision precision_of(const View& first) noexcept {
    return first.is(dlpack::kInt, 8) ? Precision::int8 : first.is(dlpack::kUInt, 16) ? Precision::bf16 : Precision::full;
  }

  // Of weight number i.
  template <class Real>
  static dlpack::DataType dtype_of(const NetworkSpec& spec, int64_t i) noexcept {
    if (spec.precision == Precision::full || spec.columns(i) == 0) return kReal<Real>;
    return spec.precision == Precision::int8 ? dlpack::DataType{dlpack::kInt, 8, 1} : dlpack::DataType{dlpack::kUInt, 16, 1};
  }

  template <class Real>
  static std::shared_ptr<const Network<Real>> made(const NetworkSpec& spec, const nb::list& weights, nb::handle given) {
    std::deque<Array> arrays;
    std::vector<const Real*> pointers;
    std::vector<const void*> low;
    for (int64_t i = 0; i < spec.weights(); ++i) {
      const Array& array = arrays.emplace_back(weights[static_cast<size_t>(i)], "a weight", Access::read);
      const dlpack::DataType dtype = dtype_of<Real>(spec, i);
      spec.columns(i) > 0 ? array.expect_dense(dtype, {spec.rows(i), spec.columns(i)})
                          : array.expect_dense(dtype, {spec.rows(i)});
      pointers.push_back(array.data<const Real>());
      low.push_back(array.data<const void>());
      if (spec.precision == Precision::int8 && spec.columns(i) > kMostInt8Terms) {
        throw nb::value_error(("int8 sums hold at most " + std::to_string(kMostInt8Terms) + " terms, got " +
                               std::to_string(spec.columns(i)))
                                  .c_str());
      }
    }
    const Maybe initial(given, "initial_state");
    if (initial.get()) {
      spec.has_one_size() ? initial.get()->expect_dense(kReal<Real>, {spec.layers() * spec.D, spec.size(0)})
                          : initial.get()->expect_dense(kReal<Real>, {spec.D, spec.sum_of_sizes()});
    }
    const Real* start = initial.get() ? initial.get()->data<const Real>() : nullptr;
    if constexpr (sizeof(Real) == 4) {
      if (spec.precision != Precision::full) return low_network(spec, low.data(), start);
    }
    return std::make_shared<const Network<Real>>(spec, pointers.data(), start);
  }

  template <class Real>
  static Series<Real> series(const View& view, bool batch_first) noexcept {
    return {static_cast<Real*>(view.data), view.strides[batch_first ? 1 : 0], view.strides[batch_first ? 0 : 1]};
  }

  template <class Real>
  static void run(const Network<Real>& network, nb::handle given_x, nb::handle given_y, nb::handle given_h_n,
                  nb::handle given_h0, nb::handle given_lengths, nb::handle given_resets, bool batch_first,
                  int32_t threads) {
    const NetworkSpec& spec = network.spec();
    const Array x(given_x, "x", Access::read), y(given_y, "y", Access::write), h_n(given_h_n, "h_n", Access::write);
    const Maybe h0(given_h0, "h0"), lengths(given_lengths, "lengths"), resets(given_resets, "resets");
    if (x.view().ndim != 3) refuse("x", batch_first ? "[B, T, I]" : "[T, B, I]", x.view());
    const int64_t first = x.view().sizes[0], second = x.view().sizes[1];
    const int64_t T = batch_first ? second : first, B = batch_first ? first : second;
    if (T < 1) throw nb::value_error("x must have at least one step");
    x.expect(kReal<Real>, {first, second, spec.I});
    y.expect(kReal<Real>, {first, second, spec.outputs()});
    if (!x.view().has_dense_rows() || !y.view().has_dense_rows()) {
      throw nb::value_error("x and y must have features that lie in one piece: give a copy of it");
    }
    expect_states(spec, B, kReal<Real>, h_n);
    if (h0.get()) expect_states(spec, B, kReal<Real>, *h0.get());
    Sequences<Real> call{T,
                         B,
                         series<const Real>(x.view(), batch_first),
                         h0.get() ? h0.get()->data<const Real>() : nullptr,
                         nullptr,
                         {nullptr, 0, 0},
                         series<Real>(y.view(), batch_first),
                         h_n.data<Real>()};
    if (lengths.get()) {
      lengths.get()->expect_dense(kInt64, {B});
      call.lengths = lengths.get()->data<const int64_t>();
      for (int64_t b = 0; b < B; ++b) {
        if (call.lengths[b] < 0 || call.lengths[b] > T) {
          throw nb::value_error(("lengths must be from 0 to T=" + std::to_string(T) + ", got " +
                                 std::to_string(call.lengths[b]) + " for sequence " + std::to_string(b))
                                    .c_str());
        }
      }
    }
    if (resets.get()) {
      resets.get()->expect(kBool, {first, second});
      call.resets = series<const uint8_t>(resets.get()->view(), batch_first);
    }
    if (y.overlaps(x) || y.overlaps(h_n) || h_n.overlaps(x)) throw nb::value_error("outputs must not overlap x or each other");
    if (B > 0) run_unlocked(T * B * network.work(), [&] { network.forward(call, threads); });
  }

  std::shared_ptr<const Network<float>> f32_;
  std::shared_ptr<const Network<double>> f64_;
};

// A stream of one of the two dtypes.
class AnyStream {
 public:
  AnyStream(const AnyNetwork& network, int64_t batch) {
    if (batch < 1) throw nb::value_error(("batch must be at least 1, got " + std::to_string(batch)).c_str());
    network.is_double() ? make(f64_, network, batch) : make(f32_, network, batch);
  }

  // The lock is held for short steps, and keeps others away without it too: a free-threaded Python has none.
  void step(nb::handle x, nb::handle y, int32_t threads) {
    const Turn turn(*this);
    f64_ ? run(*f64_, x, y, threads) : run(*f32_, x, y, threads);
  }

  void reset(nb::handle rows) {
    const Turn turn(*this);
    f64_ ? reset_rows(*f64_, rows) : reset_rows(*f32_, rows);
  }

  void get_state(nb::handle to) {
    const Turn turn(*this);
    const Array array(to, "state", Access::write);
    f64_ ? get(*f64_, array) : get(*f32_, array);
  }

  void set_state(nb::handle from) {
    const Turn turn(*this);
    const Array array(from, "state", Access::read);
    f64_ ? set(*f64_, array) : set(*f32_, array);
  }

 private:
  // One caller's, or RuntimeError.
  class Turn {
   public:
    explicit Turn(AnyStream& stream) : stream_(stream) {
      if (stream_.busy_.exchange(true, std::memory_order_acquire)) {
        throw std::runtime_error("a stream is for one thread at a time, and another is in it: give each its own");
      }
    }
    ~Turn() { stream_.busy_.store(false, std::memory_order_release); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    AnyStream& stream_;
  };

  template <class Real>
  static void make(std::unique_ptr<Stream<Real>>& to, const AnyNetwork& network, int64_t batch) {
    if (network.get<Real>()->spec().D != 1) {
      throw nb::value_error("a bidirectional GRU has no stream: its second direction begins at the end of the sequence");
    }
    to = std::make_unique<Stream<Real>>(network.get<Real>(), batch);
  }

  template <class Real>
  static void run(Stream<Real>& stream, nb::handle given_x, nb::handle given_y, int32_t threads) {
    check_threads(threads);
    const NetworkSpec& spec = stream.network().spec();
    const Array x(given_x, "x", Access::read), y(given_y, "out", Access::write);
    const int64_t B = stream.batch(), H = spec.outputs();
    if (x.view().ndim == 1 && B == 1) {
      x.expect_dense(kReal<Real>, {spec.I});
      y.expect_dense(kReal<Real>, {H});
    } else {
      x.expect_dense(kReal<Real>, {B, spec.I});
      y.expect_dense(kReal<Real>, {B, H});
    }
    if (y.overlaps(x)) throw nb::value_error("out must not overlap x");
    run_unlocked(B * stream.network().work(), [&] { stream.step(x.data<const Real>(), y.data<Real>(), threads); });
  }

  template <class Real>
  static void reset_rows(Stream<Real>& stream, nb::handle rows) {
    if (rows.is_none()) return stream.reset();
    const Array array(rows, "rows", Access::read);
    if (array.view().ndim != 1) refuse("rows", "one-dimensional", array.view());
    const int64_t count = array.view().sizes[0];
    array.expect_dense(kInt64, {count});
    const auto* numbers = array.data<const int64_t>();
    for (int64_t i = 0; i < count; ++i) {
      if (numbers[i] < 0 || numbers[i] >= stream.batch()) {
        throw nb::index_error(("rows must be from 0 to " + std::to_string(stream.batch() - 1) + ", got " +
                               std::to_string(numbers[i]))
                                  .c_str());
      }
    }
    for (int64_t i = 0; i < count; ++i) stream.reset(numbers[i]);
  }

  template <class Real>
  static void get(const Stream<Real>& stream, const Array& to) {
    expect_states(stream.network().spec(), stream.batch(), kReal<Real>, to);
    stream.get_state(to.data<Real>());
  }

  template <class Real>
  static void set(Stream<Real>& stream, const Array& from) {
    expect_states(stream.network().spec(), stream.batch(), kReal<Real>, from);
    stream.set_state(from.data<const Real>());
  }

  std::unique_ptr<Stream<float>> f32_;
  std::unique_ptr<Stream<double>> f64_;
  std::atomic<bool> busy_{false};
};

}  // namespace

void define_runtime(nb::module_& m) {
  nb::class_<AnyNetwork>(m, "Network", "A stack of layers for inference on arrays, with weights of its own.")
      .def(nb::init<int64_t, const std::vector<int64_t>&, int64_t, bool, bool, bool, double, const nb::list&, nb::handle>(),
           "input_size"_a, "hidden_sizes"_a, "directions"_a, "bias"_a, "reset_after"_a, "layer_norm"_a, "zoneout"_a,
           "weights"_a, "initial_state"_a.none(),
           "weights: layer by layer, forward before reverse, in torch's order, all float32 or all float64, in one piece "
           "each; or matrices of int8, with their scales [3H] behind the two of a direction, or of bfloat16 (as uint16), and "
           "the rest float32; initial_state [L * D, H], or [D, sum of H] where the layers' sizes differ, or None. All are copied. "
           "TypeError and ValueError say what does not fit.")
      .def("forward", &AnyNetwork::forward, "x"_a, "y"_a, "h_n"_a, "h0"_a.none(), "lengths"_a.none(), "resets"_a.none(),
           "batch_first"_a, "threads"_a,
           "Writes y and h_n of x [T, B, I] (or [B, T, I], with y and resets likewise). lengths [B] int64, resets [T, B] "
           "bool; h0 and h_n [L * D, B, H], or [D, B, sum of H].");
  nb::class_<AnyStream>(m, "Stream", "Some sequences of a network, a step at a time, and their states.")
      .def(nb::init<const AnyNetwork&, int64_t>(), "network"_a, "batch"_a, nb::keep_alive<1, 2>())
      .def("step", &AnyStream::step, "x"_a, "y"_a, "threads"_a, "Writes y [B, H] of x [B, I]; [H] and [I] where B is 1.")
      .def("reset", &AnyStream::reset, "rows"_a.none(), "To the initial state: rows int64, or all of them.")
      .def("get_state", &AnyStream::get_state, "to"_a, "Writes the states, in the form of h_n.")
      .def("set_state", &AnyStream::set_state, "from_"_a, "Goes on from other states, in the form of h_n.");
}

}  // namespace fastgru::binding
