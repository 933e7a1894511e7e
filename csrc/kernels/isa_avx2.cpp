// The kernels for avx2.
#define FASTGRU_KERNELS kernels_avx2
#include "kernels.inl"
