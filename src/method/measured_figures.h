// Written by `bench/results.py methods`: not to be edited by hand.
// clang-format off
#pragma once

#include "method/measured.h"

#include <array>

namespace kvfold {

inline constexpr std::string_view kMeasuredHow =
    "Measured on SmolLM2-135M-Instruct, 1024 tokens, 8x, 2 texts; see docs/results.md.";

inline constexpr std::array kMeasured = {
    Measured{"nonuniform", 1.36, 0.17},
    Measured{"sequential_on_policy", 2.85, 0.22},
    Measured{"self_study", 1.90, 0.23},
    Measured{"on_policy", 2.03, 0.23},
    Measured{"omp_refine", 0.98, 0.23},
    Measured{"refine", 0.78, 0.25},
    Measured{"chunked", 0.94, 0.25},
    Measured{"generation", 5.69, 0.26},
    Measured{"omp", 1.25, 0.27},
    Measured{"context_prefill", 1.24, 0.39},
    Measured{"solver", 0.72, 0.40},
    Measured{"select", 0.19, 0.69},
    Measured{"keep_last", 0.00, 1.00},
    Measured{"keep_random", 0.00, 1.16},
    Measured{"keep_first", 0.00, 1.61},
};

} // namespace kvfold
