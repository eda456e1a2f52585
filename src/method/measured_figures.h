// Written by `bench/results.py methods`: not to be edited by hand.
// clang-format off
#pragma once

#include "method/measured.h"

#include <array>

namespace kvfold {

inline constexpr std::string_view kMeasuredHow =
    "Measured on SmolLM2-135M-Instruct, 1024 tokens, 8x, 2 texts; see docs/experiments.";

inline constexpr std::array kMeasured = {
    Measured{"self_study", 2.35, 0.22},
    Measured{"omp_refine", 1.62, 0.22},
    Measured{"balanced", 0.58, 0.24},
    Measured{"best", 1.68, 0.24},
    Measured{"on_policy", 1.39, 0.25},
    Measured{"sequential_on_policy", 2.94, 0.25},
    Measured{"refine", 0.78, 0.26},
    Measured{"chunked", 1.06, 0.26},
    Measured{"generation", 4.63, 0.26},
    Measured{"fast", 0.66, 0.26},
    Measured{"omp", 0.67, 0.30},
    Measured{"nonuniform", 1.48, 0.31},
    Measured{"context_prefill", 0.84, 0.36},
    Measured{"solver", 0.75, 0.40},
    Measured{"select", 0.01, 0.70},
    Measured{"keep_last", 0.00, 1.00},
    Measured{"keep_random", 0.00, 1.22},
    Measured{"keep_first", 0.00, 1.61},
};

} // namespace kvfold
