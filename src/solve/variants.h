// The tables of kernels that a build may hold. kernel_table.cpp defines each of them.
#pragma once

#include "solve/kernels.h"

namespace kvfold {

// C names: variants.cmake makes all symbols of a variant local but this one, and says it as it is written
// here.
extern "C" {
extern const Kernels kvfold_kernels_plain; // compiled with the flags of all other files
extern const Kernels kvfold_kernels_avx2;
extern const Kernels kvfold_kernels_avx512;
}

#ifdef KVFOLD_HAS_VARIANTS
// The instructions that the flags in CMakeLists.txt allow, and whether the system saves their registers.
inline bool processor_has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

inline bool processor_has_avx512() {
    return processor_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
#endif

} // namespace kvfold
