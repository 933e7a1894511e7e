// The kernels for weights of few bits, for avx512_vnni.
#define FASTGRU_LOW_KERNELS low_kernels_avx512_vnni
#include "low_precision.inl"
