// Written by `bench/results.py methods`: not to be edited by hand.
// clang-format off
#pragma once

#include "method/measured.h"

#include <array>

namespace kvfold {

inline constexpr std::string_view kMeasuredHow =
    "Measured on SmolLM2-135M-Instruct, 1024 tokens, 8x, 2 texts; see docs/experiments.";

inline constexpr std::array kMeasured = {
    Measured{"best", 2.42, 0.17},
    Measured{"self_study", 2.85, 0.22},
    Measured{"balanced", 0.84, 0.22},
    Measured{"omp_refine", 1.75, 0.22},
    Measured{"on_policy", 1.37, 0.25},
    Measured{"sequential_on_policy", 3.41, 0.25},
    Measured{"refine", 0.90, 0.26},
    Measured{"chunked", 1.02, 0.26},
    Measured{"generation", 2.49, 0.26},
    Measured{"fast", 0.35, 0.26},
    Measured{"omp", 0.68, 0.30},
    Measured{"nonuniform", 1.49, 0.31},
    Measured{"context_prefill", 1.06, 0.36},
    Measured{"solver", 0.70, 0.40},
    Measured{"select", 0.02, 0.70},
    Measured{"keep_last", 0.00, 1.00},
    Measured{"keep_random", 0.00, 1.22},
    Measured{"keep_first", 0.00, 1.61},
};

} // namespace kvfold
