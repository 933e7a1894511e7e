#include "system.h"

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <malloc.h>
#include <windows.h>
#else
#include <dlfcn.h>
#include <pthread.h>

#include <cstdlib>
#ifdef __aarch64__
#ifdef __APPLE__
#include <sys/sysctl.h>
#else
#include <sys/auxv.h>
#endif
#endif
#endif

namespace fastgru {

#ifdef __aarch64__
bool has_dotprod() noexcept {
#if defined(_WIN32)
  constexpr DWORD kDotProduct = 43;  // PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE
  return IsProcessorFeaturePresent(kDotProduct) != 0;
#elif defined(__APPLE__)
  int found = 0;
  size_t size = sizeof found;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &found, &size, nullptr, 0) == 0 && found == 1;
#else
  constexpr unsigned long kDotProduct = 1ul << 20;  // HWCAP_ASIMDDP
  return (getauxval(AT_HWCAP) & kDotProduct) != 0;
#endif
}
#endif

#ifdef _WIN32

void at_fork(void (*)(), void (*)(), void (*)()) noexcept {}

void stay_loaded() noexcept {
  HMODULE library = nullptr;
  GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                     reinterpret_cast<LPCWSTR>(&stay_loaded), &library);
}

void* openmp_of_torch(const char*) noexcept { return nullptr; }

void* allocate_aligned(size_t alignment, size_t bytes) noexcept { return _aligned_malloc(bytes, alignment); }
void free_aligned(void* memory) noexcept { _aligned_free(memory); }

#else

void at_fork(void (*before)(), void (*in_parent)(), void (*in_child)()) noexcept {
  pthread_atfork(before, in_parent, in_child);
}

void stay_loaded() noexcept {
  Dl_info library;
  if (dladdr(reinterpret_cast<void*>(&stay_loaded), &library) == 0) return;
  dlopen(library.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);  // null in a program's own code, which stays
}

void* openmp_of_torch(const char* name) noexcept {
#ifdef __APPLE__
  constexpr const char* kTorch = "@rpath/libtorch_cpu.dylib";
#else
  constexpr const char* kTorch = "libtorch_cpu.so";
#endif
  void* torch = dlopen(kTorch, RTLD_LAZY | RTLD_NOLOAD);  // the name in itself: found wherever it was loaded from
  void* function = torch ? dlsym(torch, name) : nullptr;   // in what it was linked with
  if (torch) dlclose(torch);
  return function ? function : dlsym(RTLD_DEFAULT, name);
}

void* allocate_aligned(size_t alignment, size_t bytes) noexcept {
  void* memory = nullptr;
  return posix_memalign(&memory, alignment, bytes) == 0 ? memory : nullptr;
}
void free_aligned(void* memory) noexcept { std::free(memory); }

#endif

}  // namespace fastgru
