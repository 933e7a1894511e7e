// The kernels for weights of few bits, for neon_dotprod.
#define FASTGRU_LOW_KERNELS low_kernels_neon_dotprod
#include "low_precision.inl"
