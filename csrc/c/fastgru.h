/* fastgru: trained GRUs in inference, from C or any language that calls C. float32, on the CPU.
 *
 *     fastgru_model *model;
 *     fastgru_stream *stream;
 *     fastgru_error error;
 *     if (fastgru_load("gru.safetensors", "encoder.rnn.", &model, &error) != FASTGRU_OK) die(error.message);
 *     if (fastgru_stream_create(model, 1, &stream, &error) != FASTGRU_OK) die(error.message);
 *     fastgru_stream_step(stream, x, y, NULL);
 *
 * Letters: T steps, B sequences, I inputs, H units, L layers, D directions. Arrays are dense, rows of the last dimension
 * one after the other, and the caller's; none is kept. There is no global state, and no exception leaves the library.
 *
 * A function that can fail returns a status and, where `error` is not NULL, writes into it what was expected, what came
 * and what to do. Nothing has changed then.
 */
#ifndef FASTGRU_H
#define FASTGRU_H

#include <stddef.h>
#include <stdint.h>

#ifndef FASTGRU_API
#if defined(_WIN32) && defined(FASTGRU_SHARED)
#define FASTGRU_API __declspec(dllimport)
#elif defined(__GNUC__)
#define FASTGRU_API __attribute__((visibility("default")))
#else
#define FASTGRU_API
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fastgru_status {
  FASTGRU_OK = 0,
  FASTGRU_INVALID_ARGUMENT = 1,
  FASTGRU_OUT_OF_MEMORY = 2,
  FASTGRU_CANNOT_READ = 3, /* the file is not there, or cannot be read */
  FASTGRU_BAD_FILE = 4     /* it is cut, of another format, or has no such GRU in it */
} fastgru_status;

typedef struct fastgru_error {
  char message[512]; /* one line, ends in 0 */
} fastgru_error;

/* A stack of layers with weights of its own. It never changes: any number of threads may use one at once. */
typedef struct fastgru_model fastgru_model;

/* Some sequences of a model that come a step at a time, and their states. For one thread at a time. */
typedef struct fastgru_stream fastgru_stream;

typedef struct fastgru_config {
  size_t size; /* of this structure, as FASTGRU_CONFIG_INIT sets it */
  int64_t input_size, num_layers;
  const int64_t *hidden_sizes; /* H of each layer */
  int32_t bidirectional, bias, reset_after, layer_norm; /* 0 or 1 */
  float zoneout;                                        /* the probability of it in training, 0 to 1 */
} fastgru_config;

/* torch.nn.GRU's defaults. */
#define FASTGRU_CONFIG_INIT \
  { sizeof(fastgru_config), 0, 1, NULL, 0, 1, 1, 0, 0.0f }

/* The library's version, such as "0.1.0". */
FASTGRU_API const char *fastgru_version(void);

/* The instruction set that models made from now on will use: "generic", "avx2", "avx512" or "neon". The environment's
 * FASTGRU_ISA may name another. */
FASTGRU_API const char *fastgru_instruction_set(void);

/* A model of weights in torch's order, rows in the order r, z, n: layer by layer, forward before reverse, each
 *     w_ih [3H, I] (above the first layer [3H, D * H of the layer below]), w_hh [3H, H],
 *     with bias b_ih [3H], b_hh [3H], with layer_norm g_ih [3H], g_hh [3H].
 * count: how many arrays those are. initial_state: what a sequence starts from, [L * D, H], or [D, sum of all H] where the
 * layers' H differ, or NULL: zeros. All are copied. */
FASTGRU_API fastgru_status fastgru_create(const fastgru_config *config, const float *const *weights, size_t count,
                                          const float *initial_state, fastgru_model **model, fastgru_error *error);

/* The GRU in a safetensors file (by fastgru.save, or any with torch's names) whose names begin with `prefix`, such as
 * "encoder.rnn."; NULL: none. float16, bfloat16 and float64 become float32. */
FASTGRU_API fastgru_status fastgru_load(const char *path, const char *prefix, fastgru_model **model,
                                        fastgru_error *error);

/* Streams may outlive their model. NULL is left alone. */
FASTGRU_API void fastgru_free(fastgru_model *model);

FASTGRU_API int64_t fastgru_input_size(const fastgru_model *model);               /* I */
FASTGRU_API int64_t fastgru_output_size(const fastgru_model *model);              /* D * H of the last layer */
FASTGRU_API int64_t fastgru_num_layers(const fastgru_model *model);               /* L */
FASTGRU_API int64_t fastgru_num_directions(const fastgru_model *model);           /* D */
FASTGRU_API int64_t fastgru_hidden_size(const fastgru_model *model, int64_t layer); /* H; 0 where there is no layer */
FASTGRU_API int64_t fastgru_state_size(const fastgru_model *model); /* floats that h0 and h_n have for a sequence */

/* Whole sequences; T >= 1, B >= 0.
 *   x [T, B, I] -> y [T, B, output size]; with batch_first [B, T, ..]
 *   h0, h_n [L * D, B, H], or [D, B, sum of all H] where the layers' H differ; h0 NULL: the initial state
 *   lengths [B], each from 0 to T: a sequence's steps, y is 0 beyond them; NULL: all T
 *   resets [T, B] (with batch_first [B, T]): not 0 where a sequence starts anew; NULL: nowhere
 *   threads: how many it may use
 * y and h_n must not overlap anything else. */
FASTGRU_API fastgru_status fastgru_forward(const fastgru_model *model, int64_t steps, int64_t batch, const float *x,
                                           const float *h0, const int64_t *lengths, const uint8_t *resets, float *y,
                                           float *h_n, int32_t batch_first, int32_t threads, fastgru_error *error);

/* `batch` sequences of a model of one direction, from its initial state. */
FASTGRU_API fastgru_status fastgru_stream_create(const fastgru_model *model, int64_t batch, fastgru_stream **stream,
                                                 fastgru_error *error);
FASTGRU_API void fastgru_stream_free(fastgru_stream *stream);

/* One step: x [B, I] -> y [B, output size]. Allocates nothing after a thread's first step. */
FASTGRU_API fastgru_status fastgru_stream_step(fastgru_stream *stream, const float *x, float *y, fastgru_error *error);

/* To the initial state: all sequences, or one of them. */
FASTGRU_API fastgru_status fastgru_stream_reset(fastgru_stream *stream, fastgru_error *error);
FASTGRU_API fastgru_status fastgru_stream_reset_row(fastgru_stream *stream, int64_t row, fastgru_error *error);

/* The states, in the form of h_n. */
FASTGRU_API fastgru_status fastgru_stream_get_state(const fastgru_stream *stream, float *state, fastgru_error *error);
FASTGRU_API fastgru_status fastgru_stream_set_state(fastgru_stream *stream, const float *state, fastgru_error *error);

#ifdef __cplusplus
}
#endif

#endif
