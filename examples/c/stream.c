/* A trained GRU over a stream: reads a step of numbers a line from standard input, prints the output of each.
 *
 *     cc examples/c/stream.c $(pkg-config --cflags --libs fastgru) -o stream
 *     ./stream gru.safetensors encoder.rnn. < steps.txt
 */
#include <fastgru.h>
#include <stdio.h>
#include <stdlib.h>

static int failed(const fastgru_error *error) {
  fprintf(stderr, "stream: %s\n", error->message);
  return 1;
}

/* 1: all of a step, 0: the input is at its end, -1: something else than numbers. */
static int read_step(float *x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const int found = scanf("%f", &x[i]);
    if (found == EOF && i == 0) return 0;
    if (found != 1) return -1;
  }
  return 1;
}

static int run(fastgru_stream *stream, float *x, int64_t inputs, float *y, int64_t outputs) {
  fastgru_error error;
  for (int found; (found = read_step(x, inputs)) != 0;) {
    if (found < 0) {
      fprintf(stderr, "stream: expected %lld numbers a step\n", (long long)inputs);
      return 1;
    }
    if (fastgru_stream_step(stream, x, y, &error) != FASTGRU_OK) return failed(&error);
    for (int64_t i = 0; i < outputs; ++i) printf("%.9g%c", (double)y[i], i + 1 < outputs ? ' ' : '\n');
    fflush(stdout);
  }
  return 0;
}

int main(int argc, char **argv) {
  fastgru_model *model;
  fastgru_stream *stream;
  fastgru_error error;
  if (argc < 2) {
    fprintf(stderr, "usage: stream FILE.safetensors [PREFIX]\n");
    return 2;
  }
  if (fastgru_load(argv[1], argc > 2 ? argv[2] : NULL, &model, &error) != FASTGRU_OK) return failed(&error);
  if (fastgru_stream_create(model, 1, &stream, &error) != FASTGRU_OK) {
    fastgru_free(model);
    return failed(&error);
  }
  const int64_t inputs = fastgru_input_size(model), outputs = fastgru_output_size(model);
  float *x = malloc((size_t)inputs * sizeof *x), *y = malloc((size_t)outputs * sizeof *y);
  const int code = x && y ? run(stream, x, inputs, y, outputs) : 1;
  free(x);
  free(y);
  fastgru_stream_free(stream);
  fastgru_free(model);
  return code;
}
