// oneDNN's lbr_gru as a process of its own, for torch holds another version of oneDNN, and two must not share a process.
//
// usage: onednn_server I H B T D FOLDER
// FOLDER holds raw float32: x [T,B,I], and, for oneDNN's gate order (z, r, n), weights_layer [D,I,3,H],
// weights_iter [D,H,3,H], bias [D,4,H] (z, r, n of the input, n of the state).
// Each line on stdin is a command: `infer N` or `train N` runs N times and prints each run's nanoseconds on one line;
// `dump` writes y [T,B,D*H] and dx [T,B,I] (for a cotangent of ones) into FOLDER and prints `ok`.
// Weights are reordered into oneDNN's own layout once, outside of what is timed.
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <unordered_map>

using dnnl::memory;
using Desc = memory::desc;
using Tag = memory::format_tag;
constexpr auto kF32 = memory::data_type::f32;

struct Sizes {
  int64_t I, H, B, T, D;
};

class Gru {
 public:
  Gru(const Sizes& s, const std::string& folder) : folder_(folder), stream_(engine_) {
    const auto direction =
        s.D == 2 ? dnnl::rnn_direction::bidirectional_concat : dnnl::rnn_direction::unidirectional_left2right;
    const Desc x({s.T, s.B, s.I}, kF32, Tag::tnc), h({1, s.D, s.B, s.H}, kF32, Tag::ldnc);
    const Desc y({s.T, s.B, s.D * s.H}, kF32, Tag::tnc), bias({1, s.D, 4, s.H}, kF32, Tag::ldgo);
    const Desc layer_any({1, s.D, s.I, 3, s.H}, kF32, Tag::any), iter_any({1, s.D, s.H, 3, s.H}, kF32, Tag::any);
    const Desc layer({1, s.D, s.I, 3, s.H}, kF32, Tag::ldigo), iter({1, s.D, s.H, 3, s.H}, kF32, Tag::ldigo);

    memory x_mem = load(x, "x"), bias_mem = load(bias, "bias");
    memory layer_mem = load(layer, "weights_layer"), iter_mem = load(iter, "weights_iter");
    memory h0 = zeros(h), h_n = zeros(h);
    y_ = zeros(y);

    using Forward = dnnl::lbr_gru_forward;
    const Forward::primitive_desc infer(engine_, dnnl::prop_kind::forward_inference, direction, x, h, layer_any,
                                        iter_any, bias, y, h);
    const Forward::primitive_desc train(engine_, dnnl::prop_kind::forward_training, direction, x, h, layer_any,
                                        iter_any, bias, y, h);
    const dnnl::lbr_gru_backward::primitive_desc back(engine_, dnnl::prop_kind::backward, direction, x, h, layer_any,
                                                      iter_any, bias, y, h, x, h, layer_any, iter_any, bias, y, h,
                                                      train);
    infer_ = Forward(infer);
    train_ = Forward(train);
    back_ = dnnl::lbr_gru_backward(back);

    const auto arguments = [&](const Desc& wl, const Desc& wi) {
      return Arguments{{DNNL_ARG_SRC_LAYER, x_mem},
                       {DNNL_ARG_SRC_ITER, h0},
                       {DNNL_ARG_WEIGHTS_LAYER, reordered(layer_mem, wl)},
                       {DNNL_ARG_WEIGHTS_ITER, reordered(iter_mem, wi)},
                       {DNNL_ARG_BIAS, bias_mem},
                       {DNNL_ARG_DST_LAYER, y_},
                       {DNNL_ARG_DST_ITER, h_n}};
    };
    const memory workspace = zeros(train.workspace_desc());
    infer_args_ = arguments(infer.weights_layer_desc(), infer.weights_iter_desc());
    train_args_ = arguments(train.weights_layer_desc(), train.weights_iter_desc());
    train_args_.insert({DNNL_ARG_WORKSPACE, workspace});
    back_args_ = arguments(back.weights_layer_desc(), back.weights_iter_desc());
    back_args_.insert({DNNL_ARG_WORKSPACE, workspace});

    memory dy = zeros(y);
    auto* ones = static_cast<float*>(dy.get_data_handle());
    for (size_t i = 0; i < y.get_size() / sizeof(float); ++i) ones[i] = 1.0f;
    dx_ = zeros(x);
    accumulated_ = {zeros(back.diff_weights_layer_desc()), zeros(back.diff_weights_iter_desc()), zeros(bias)};
    back_args_.insert({{DNNL_ARG_DIFF_SRC_LAYER, dx_},
                       {DNNL_ARG_DIFF_SRC_ITER, zeros(h)},
                       {DNNL_ARG_DIFF_WEIGHTS_LAYER, accumulated_[0]},
                       {DNNL_ARG_DIFF_WEIGHTS_ITER, accumulated_[1]},
                       {DNNL_ARG_DIFF_BIAS, accumulated_[2]},
                       {DNNL_ARG_DIFF_DST_LAYER, dy},
                       {DNNL_ARG_DIFF_DST_ITER, zeros(h)}});
  }

  void infer() {
    infer_.execute(stream_, infer_args_);
    stream_.wait();
  }

  void train() {
    train_.execute(stream_, train_args_);
    // oneDNN adds to the weights' gradients: they start at zero, as a framework's do
    for (memory& m : accumulated_) std::memset(m.get_data_handle(), 0, m.get_desc().get_size());
    back_.execute(stream_, back_args_);
    stream_.wait();
  }

  void dump() {
    train();
    save(y_, "y");
    save(dx_, "dx");
  }

 private:
  using Arguments = std::unordered_map<int, memory>;

  memory zeros(const Desc& desc) {
    memory m(desc, engine_);
    std::memset(m.get_data_handle(), 0, desc.get_size());
    return m;
  }

  memory load(const Desc& desc, const std::string& name) {
    memory m = zeros(desc);
    std::ifstream file(folder_ + "/" + name, std::ios::binary);
    if (!file.read(static_cast<char*>(m.get_data_handle()), static_cast<std::streamsize>(desc.get_size())))
      throw std::runtime_error("cannot read " + name);
    return m;
  }

  void save(const memory& m, const std::string& name) {
    std::ofstream file(folder_ + "/" + name, std::ios::binary);
    file.write(static_cast<const char*>(m.get_data_handle()), static_cast<std::streamsize>(m.get_desc().get_size()));
  }

  memory reordered(memory& from, const Desc& desc) {
    memory to = zeros(desc);
    dnnl::reorder(from, to).execute(stream_, from, to);
    stream_.wait();
    return to;
  }

  std::string folder_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_;
  dnnl::lbr_gru_forward infer_, train_;
  dnnl::lbr_gru_backward back_;
  Arguments infer_args_, train_args_, back_args_;
  memory y_, dx_;
  std::vector<memory> accumulated_;
};

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  const Sizes sizes{std::atoll(argv[1]), std::atoll(argv[2]), std::atoll(argv[3]), std::atoll(argv[4]),
                    std::atoll(argv[5])};
  Gru gru(sizes, argv[6]);
  std::string command;
  while (std::cin >> command) {
    if (command == "dump") {
      gru.dump();
      std::cout << "ok" << std::endl;
      continue;
    }
    int count = 0;
    std::cin >> count;
    for (int i = 0; i < count; ++i) {
      const auto start = std::chrono::steady_clock::now();
      command == "infer" ? gru.infer() : gru.train();
      std::cout << std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count() << ' ';
    }
    std::cout << std::endl;
  }
}
