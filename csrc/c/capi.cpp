// The C interface: arguments are checked here, and every exception becomes a status.
#include <cmath>
#include <cstring>
#include <new>
#include <string>

#include "dispatch.h"
#include "fastgru.h"
#include "network.h"
#include "stored_gru.h"

using fastgru::Network;
using fastgru::NetworkSpec;
using fastgru::Stream;

struct fastgru_model {
  std::shared_ptr<const Network<float>> network;
};

struct fastgru_stream {
  Stream<float> stream;
};

namespace {

struct InvalidArgument {
  std::string words;
};

[[noreturn]] void refuse(const std::string& words) { throw InvalidArgument{words}; }

void expect(bool fits, const char* words) {
  if (!fits) refuse(words);
}

fastgru_status failed(fastgru_status status, const char* words, fastgru_error* error) noexcept {
  if (error) {
    std::strncpy(error->message, words, sizeof error->message - 1);
    error->message[sizeof error->message - 1] = '\0';
  }
  return status;
}

template <class F>
fastgru_status guarded(fastgru_error* error, F body) noexcept {
  if (error) error->message[0] = '\0';
  try {
    body();
    return FASTGRU_OK;
  } catch (const InvalidArgument& found) {
    return failed(FASTGRU_INVALID_ARGUMENT, found.words.c_str(), error);
  } catch (const fastgru::CannotRead& found) {
    return failed(FASTGRU_CANNOT_READ, found.what(), error);
  } catch (const fastgru::BadFile& found) {
    return failed(FASTGRU_BAD_FILE, found.what(), error);
  } catch (const std::bad_alloc&) {
    return failed(FASTGRU_OUT_OF_MEMORY, "there is not enough memory", error);
  } catch (const std::length_error&) {
    return failed(FASTGRU_OUT_OF_MEMORY, "there is not enough memory", error);
  } catch (const std::exception& found) {  // FASTGRU_ISA names what is not there
    return failed(FASTGRU_INVALID_ARGUMENT, found.what(), error);
  }
}

NetworkSpec spec_of(const fastgru_config* config) {
  expect(config, "config is NULL");
  expect(config->size == sizeof(fastgru_config), "config.size is not this version's: begin with FASTGRU_CONFIG_INIT");
  expect(config->input_size >= 1 && config->num_layers >= 1, "input_size and num_layers must be at least 1");
  expect(config->hidden_sizes, "hidden_sizes is NULL");
  expect(config->zoneout >= 0 && config->zoneout <= 1, "zoneout must be a probability from 0 to 1");
  expect(!config->layer_norm || config->reset_after, "layer_norm needs reset_after");
  constexpr int64_t kMost = int64_t{1} << 24;  // of a size: no product of two overflows
  NetworkSpec spec;
  spec.I = config->input_size;
  spec.hidden.assign(config->hidden_sizes, config->hidden_sizes + config->num_layers);
  for (const int64_t size : spec.hidden) expect(size >= 1 && size <= kMost, "hidden_sizes must be from 1 to 2^24");
  expect(spec.I <= kMost, "input_size must be at most 2^24");
  spec.D = config->bidirectional ? 2 : 1;
  spec.bias = config->bias != 0;
  spec.form = config->layer_norm    ? fastgru::Form::normed
              : config->reset_after ? fastgru::Form::after
                                    : fastgru::Form::before;
  spec.zoneout = static_cast<double>(config->zoneout);
  return spec;
}

fastgru_model* made(const NetworkSpec& spec, const float* const* weights, const float* initial) {
  return new fastgru_model{std::make_shared<const Network<float>>(spec, weights, initial)};
}

void check_sequences(int64_t steps, int64_t batch, const int64_t* lengths, int32_t threads) {
  constexpr int64_t kMost = int64_t{1} << 31;
  expect(steps >= 1 && steps <= kMost && batch >= 0 && batch <= kMost, "steps must be at least 1, batch at least 0");
  expect(threads >= 1, "threads must be at least 1");
  for (int64_t b = 0; lengths && b < batch; ++b) {
    if (lengths[b] >= 0 && lengths[b] <= steps) continue;
    refuse("lengths must be from 0 to " + std::to_string(steps) + ", got " + std::to_string(lengths[b]));
  }
}

}  // namespace

const char* fastgru_version() { return FASTGRU_VERSION; }

const char* fastgru_instruction_set() {
  try {
    return fastgru::isa_name(fastgru::active_isa());
  } catch (const std::exception&) {
    return "none: FASTGRU_ISA names a set that is not there";
  }
}

fastgru_status fastgru_create(const fastgru_config* config, const float* const* weights, size_t count,
                              const float* initial_state, fastgru_model** model, fastgru_error* error) {
  return guarded(error, [&] {
    const NetworkSpec spec = spec_of(config);
    expect(model && weights, "weights or model is NULL");
    if (count != static_cast<size_t>(spec.weights())) {
      refuse("weights must be " + std::to_string(spec.weights()) + " arrays, got " + std::to_string(count));
    }
    for (size_t i = 0; i < count; ++i) {
      expect(weights[i], "one of the weights is NULL");
      const auto number = static_cast<int64_t>(i);
      const int64_t size = spec.rows(number) * (spec.columns(number) > 0 ? spec.columns(number) : 1);
      for (int64_t k = 0; k < size; ++k) expect(std::isfinite(weights[i][k]), "weights hold numbers that are not finite");
    }
    *model = made(spec, weights, initial_state);
  });
}

fastgru_status fastgru_load(const char* path, const char* prefix, fastgru_model** model, fastgru_error* error) {
  return guarded(error, [&] {
    expect(path && model, "path or model is NULL");
    try {
      const fastgru::Safetensors file(path);
      const fastgru::StoredGru stored(file, prefix ? prefix : "");
      std::vector<const float*> weights;
      for (const auto& weight : stored.weights) weights.push_back(weight.data());
      *model = made(stored.spec, weights.data(), stored.initial.empty() ? nullptr : stored.initial.data());
    } catch (const fastgru::CannotRead& found) {
      throw fastgru::CannotRead(std::string(path) + ": " + found.what());
    } catch (const fastgru::BadFile& found) {
      throw fastgru::BadFile(std::string(path) + ": " + found.what());
    }
  });
}

void fastgru_free(fastgru_model* model) { delete model; }

int64_t fastgru_input_size(const fastgru_model* model) { return model->network->spec().I; }
int64_t fastgru_output_size(const fastgru_model* model) { return model->network->spec().outputs(); }
int64_t fastgru_num_layers(const fastgru_model* model) { return model->network->spec().layers(); }
int64_t fastgru_num_directions(const fastgru_model* model) { return model->network->spec().D; }
int64_t fastgru_state_size(const fastgru_model* model) { return model->network->spec().states(); }
int64_t fastgru_hidden_size(const fastgru_model* model, int64_t layer) {
  const NetworkSpec& spec = model->network->spec();
  return layer >= 0 && layer < spec.layers() ? spec.size(layer) : 0;
}

fastgru_status fastgru_forward(const fastgru_model* model, int64_t steps, int64_t batch, const float* x, const float* h0,
                               const int64_t* lengths, const uint8_t* resets, float* y, float* h_n,
                               int32_t batch_first, int32_t threads, fastgru_error* error) {
  return guarded(error, [&] {
    expect(model && ((x && y && h_n) || batch == 0), "model, x, y or h_n is NULL");
    check_sequences(steps, batch, lengths, threads);
    if (batch == 0) return;
    const NetworkSpec& spec = model->network->spec();
    const auto series = [&](auto* data, int64_t width) -> fastgru::Series<std::remove_pointer_t<decltype(data)>> {
      return {data, batch_first ? width : batch * width, batch_first ? steps * width : width};
    };
    model->network->forward({steps, batch, series(x, spec.I), h0, lengths, series(resets, 1), series(y, spec.outputs()), h_n},
                            threads);
  });
}

fastgru_status fastgru_stream_create(const fastgru_model* model, int64_t batch, fastgru_stream** stream,
                                     fastgru_error* error) {
  return guarded(error, [&] {
    expect(model && stream, "model or stream is NULL");
    expect(batch >= 1 && batch <= (int64_t{1} << 31), "batch must be at least 1");
    expect(model->network->spec().D == 1, "a bidirectional GRU has no stream: its second direction begins at the end");
    *stream = new fastgru_stream{Stream<float>(model->network, batch)};
  });
}

void fastgru_stream_free(fastgru_stream* stream) { delete stream; }

fastgru_status fastgru_stream_step(fastgru_stream* stream, const float* x, float* y, fastgru_error* error) {
  return guarded(error, [&] {
    expect(stream && x && y, "stream, x or y is NULL");
    stream->stream.step(x, y, 1);
  });
}

fastgru_status fastgru_stream_reset(fastgru_stream* stream, fastgru_error* error) {
  return guarded(error, [&] {
    expect(stream, "stream is NULL");
    stream->stream.reset();
  });
}

fastgru_status fastgru_stream_reset_row(fastgru_stream* stream, int64_t row, fastgru_error* error) {
  return guarded(error, [&] {
    expect(stream, "stream is NULL");
    expect(row >= 0 && row < stream->stream.batch(), "row must be from 0 to batch - 1");
    stream->stream.reset(row);
  });
}

fastgru_status fastgru_stream_get_state(const fastgru_stream* stream, float* state, fastgru_error* error) {
  return guarded(error, [&] {
    expect(stream && state, "stream or state is NULL");
    stream->stream.get_state(state);
  });
}

fastgru_status fastgru_stream_set_state(fastgru_stream* stream, const float* state, fastgru_error* error) {
  return guarded(error, [&] {
    expect(stream && state, "stream or state is NULL");
    stream->stream.set_state(state);
  });
}
