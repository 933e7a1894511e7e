// The kernels for weights of few bits, for avx2_vnni.
#define FASTGRU_LOW_KERNELS low_kernels_avx2_vnni
#include "low_precision.inl"
