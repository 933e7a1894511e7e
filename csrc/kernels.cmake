# KERNEL_SOURCES: the C++ core without Python. One kernel source is compiled once per instruction set; which
# one runs is decided at run time.
if(NOT DEFINED KERNEL_OPTIMISATION)
  set(KERNEL_OPTIMISATION -O3)
endif()
set(KERNEL_FLAGS ${KERNEL_OPTIMISATION} -fno-exceptions -fno-math-errno -fno-trapping-math -ffp-contract=fast)
set(CORE_WARNINGS -Wall -Wextra -Wpedantic -Wconversion -Wno-psabi)
option(FASTGRU_WERROR "warnings are errors; off where a user installs, whose compiler may know more of them" OFF)
if(FASTGRU_WERROR)
  list(APPEND CORE_WARNINGS -Werror)
endif()

set(KERNELS ${CMAKE_CURRENT_LIST_DIR}/kernels)
set(AVX2 -mavx2 -mfma)
# GCC 12 finds its own _mm512_undefined_ps uninitialized (its bug 105593).
set(AVX512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mprefer-vector-width=512
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
set(ISA_SOURCES)
# kernels/<name>.cpp with these options beside the others.
function(add_isa NAME)
  set(SOURCE ${KERNELS}/${NAME}.cpp)
  set_property(SOURCE ${SOURCE} APPEND PROPERTY COMPILE_OPTIONS ${ARGN})
  set(ISA_SOURCES ${ISA_SOURCES} ${SOURCE} PARENT_SCOPE)
endfunction()

add_isa(isa_generic)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|i.86")
  add_isa(isa_avx2 ${AVX2})
  add_isa(isa_avx512 ${AVX512})
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  add_isa(isa_neon)
endif()

# Kernels for weights of few bits; a C library does without.
option(FASTGRU_LOW_PRECISION "int8 and bfloat16 weights" ON)
set(LOW_SOURCES)
if(FASTGRU_LOW_PRECISION)
  set(LOW_SOURCES ${CMAKE_CURRENT_LIST_DIR}/low_dispatch.cpp ${CMAKE_CURRENT_LIST_DIR}/low_layer.cpp)
  add_isa(low_generic)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|i.86")
    add_isa(low_avx2 ${AVX2})
    add_isa(low_avx2_vnni ${AVX2} -mavxvnni)
    add_isa(low_avx512 ${AVX512})
    add_isa(low_avx512_vnni ${AVX512} -mavx512vnni)
    add_isa(low_avx512_bf16 ${AVX512} -mavx512vnni -mavx512bf16)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
    add_isa(low_neon)
    # zig, a clang, knows CPUs and no architectures.
    add_isa(low_neon_dotprod $<IF:$<CXX_COMPILER_ID:Clang>,-mcpu=generic+dotprod,-march=armv8.2-a+dotprod>)
  endif()
endif()
# Before the instruction set's own -Wno-: a later option wins.
foreach(SOURCE ${ISA_SOURCES})
  get_property(OPTIONS SOURCE ${SOURCE} PROPERTY COMPILE_OPTIONS)
  set_property(SOURCE ${SOURCE} PROPERTY COMPILE_OPTIONS ${KERNEL_FLAGS} ${CORE_WARNINGS} ${OPTIONS})
endforeach()

set(THREAD_SOURCES ${CMAKE_CURRENT_LIST_DIR}/pool.cpp ${CMAKE_CURRENT_LIST_DIR}/system.cpp
    ${CMAKE_CURRENT_LIST_DIR}/threads.cpp)
set(OTHER_SOURCES ${CMAKE_CURRENT_LIST_DIR}/dispatch.cpp ${CMAKE_CURRENT_LIST_DIR}/frozen.cpp ${CMAKE_CURRENT_LIST_DIR}/memory.cpp
    ${CMAKE_CURRENT_LIST_DIR}/network.cpp ${CMAKE_CURRENT_LIST_DIR}/packed_cache.cpp
    ${CMAKE_CURRENT_LIST_DIR}/places.cpp ${LOW_SOURCES} ${THREAD_SOURCES})
set_property(SOURCE ${OTHER_SOURCES} APPEND PROPERTY COMPILE_OPTIONS ${CORE_WARNINGS})
set(KERNEL_SOURCES ${ISA_SOURCES} ${OTHER_SOURCES})
