// The kernels for neon.
#define FASTGRU_KERNELS kernels_neon
#include "kernels.inl"
