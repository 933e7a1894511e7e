// The kernels for weights of few bits, for generic.
#define FASTGRU_LOW_KERNELS low_kernels_generic
#include "low_precision.inl"
