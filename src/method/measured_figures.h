// Written by `bench/results.py methods`: not to be edited by hand.
// clang-format off
#pragma once

#include "method/measured.h"

#include <array>

namespace kvfold {

inline constexpr std::string_view kMeasuredHow =
    "Measured on SmolLM2-135M-Instruct, 1024 tokens, 8x, 2 texts; see docs/experiments.";

inline constexpr std::array kMeasured = {
    Measured{"self_study", 2.38, 0.21},
    Measured{"omp_refine", 1.93, 0.22},
    Measured{"generation", 3.06, 0.24},
    Measured{"on_policy", 2.06, 0.25},
    Measured{"sequential_on_policy", 4.44, 0.25},
    Measured{"refine", 1.18, 0.26},
    Measured{"chunked", 1.02, 0.26},
    Measured{"omp", 0.94, 0.30},
    Measured{"nonuniform", 1.26, 0.31},
    Measured{"context_prefill", 0.97, 0.36},
    Measured{"solver", 0.81, 0.40},
    Measured{"select", 0.13, 0.70},
    Measured{"keep_last", 0.00, 1.00},
    Measured{"keep_random", 0.00, 1.22},
    Measured{"keep_first", 0.00, 1.61},
};

} // namespace kvfold
