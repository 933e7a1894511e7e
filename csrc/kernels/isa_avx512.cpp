// The kernels for avx512.
#define FASTGRU_KERNELS kernels_avx512
#include "kernels.inl"
