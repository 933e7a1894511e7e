// The kernels for generic.
#define FASTGRU_KERNELS kernels_generic
#include "kernels.inl"
