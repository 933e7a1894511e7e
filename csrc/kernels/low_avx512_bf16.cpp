// The kernels for weights of few bits, and those of float that round to bfloat16, for avx512_bf16.
#define FASTGRU_LOW_KERNELS low_kernels_avx512_bf16
#ifndef FASTGRU_INFERENCE_ONLY
#define FASTGRU_ROUNDING_KERNELS rounding_kernels_avx512_bf16
#include "bf16_kernels.inl"
#endif
#include "low_precision.inl"
