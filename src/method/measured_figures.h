// Written by `bench/results.py methods`: not to be edited by hand.
// clang-format off
#pragma once

#include "method/measured.h"

#include <array>

namespace kvfold {

inline constexpr std::string_view kMeasuredHow =
    "Measured on SmolLM2-135M-Instruct, 1024 tokens, 8x, 2 texts; see docs/experiments.";

inline constexpr std::array kMeasured = {
    Measured{"self_study", 1.80, 0.22},
    Measured{"omp_refine", 2.86, 0.22},
    Measured{"best", 2.91, 0.23},
    Measured{"sequential_on_policy", 2.79, 0.25},
    Measured{"on_policy", 1.61, 0.25},
    Measured{"refine", 0.88, 0.25},
    Measured{"chunked", 0.88, 0.25},
    Measured{"generation", 1.50, 0.26},
    Measured{"balanced", 1.05, 0.27},
    Measured{"fast", 0.57, 0.29},
    Measured{"omp", 0.53, 0.30},
    Measured{"nonuniform", 1.26, 0.32},
    Measured{"context_prefill", 1.28, 0.37},
    Measured{"solver", 0.49, 0.40},
    Measured{"select", 0.03, 0.70},
    Measured{"keep_last", 0.00, 1.00},
    Measured{"keep_random", 0.00, 1.22},
    Measured{"keep_first", 0.00, 1.61},
};

} // namespace kvfold
