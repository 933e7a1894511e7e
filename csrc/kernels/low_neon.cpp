// The kernels for weights of few bits, for neon.
#define FASTGRU_LOW_KERNELS low_kernels_neon
#include "low_precision.inl"
