// Written by `bench/results.py methods`: not to be edited by hand.
// clang-format off
#pragma once

#include "method/measured.h"

#include <array>

namespace kvfold {

inline constexpr std::string_view kMeasuredHow =
    "Measured on SmolLM2-135M-Instruct, 1024 tokens, 8x, 2 texts; see docs/experiments.";

inline constexpr std::array kMeasured = {
    Measured{"self_study", 1.50, 0.22},
    Measured{"omp_refine", 2.43, 0.22},
    Measured{"best", 2.43, 0.24},
    Measured{"balanced", 0.77, 0.24},
    Measured{"sequential_on_policy", 2.20, 0.25},
    Measured{"on_policy", 1.18, 0.25},
    Measured{"refine", 0.73, 0.25},
    Measured{"chunked", 0.69, 0.25},
    Measured{"generation", 1.17, 0.26},
    Measured{"fast", 0.49, 0.26},
    Measured{"omp", 0.46, 0.30},
    Measured{"nonuniform", 1.02, 0.32},
    Measured{"context_prefill", 1.01, 0.37},
    Measured{"solver", 0.43, 0.40},
    Measured{"select", 0.03, 0.70},
    Measured{"keep_last", 0.00, 1.00},
    Measured{"keep_random", 0.00, 1.22},
    Measured{"keep_first", 0.00, 1.61},
};

} // namespace kvfold
