// The kernels for weights of few bits, for avx512_bf16.
#define FASTGRU_LOW_KERNELS low_kernels_avx512_bf16
#include "low_precision.inl"
