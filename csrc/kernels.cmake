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

set(ISA_SOURCES ${CMAKE_CURRENT_LIST_DIR}/kernels/isa_generic.cpp)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|i.86")
  set(AVX2 ${CMAKE_CURRENT_LIST_DIR}/kernels/isa_avx2.cpp)
  set(AVX512 ${CMAKE_CURRENT_LIST_DIR}/kernels/isa_avx512.cpp)
  set_property(SOURCE ${AVX2} APPEND PROPERTY COMPILE_OPTIONS -mavx2 -mfma)
  # GCC 12 finds its own _mm512_undefined_ps uninitialized (its bug 105593).
  set_property(SOURCE ${AVX512} APPEND PROPERTY COMPILE_OPTIONS -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma
               -mprefer-vector-width=512 $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  list(APPEND ISA_SOURCES ${AVX2} ${AVX512})
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  list(APPEND ISA_SOURCES ${CMAKE_CURRENT_LIST_DIR}/kernels/isa_neon.cpp)
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
    ${CMAKE_CURRENT_LIST_DIR}/places.cpp ${THREAD_SOURCES})
set_property(SOURCE ${OTHER_SOURCES} APPEND PROPERTY COMPILE_OPTIONS ${CORE_WARNINGS})
set(KERNEL_SOURCES ${ISA_SOURCES} ${OTHER_SOURCES})
