// The kernels for weights of few bits, for avx2.
#define FASTGRU_LOW_KERNELS low_kernels_avx2
#include "low_precision.inl"
