// The kernels for weights of few bits, for avx512.
#define FASTGRU_LOW_KERNELS low_kernels_avx512
#include "low_precision.inl"
