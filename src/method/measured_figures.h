// Written by `bench/results.py methods`: not to be edited by hand.
#pragma once

#include "method/measured.h"

#include <array>

namespace kvfold {

inline constexpr std::string_view kMeasuredHow =
    "Measured on SmolLM2-135M-Instruct, 1024 tokens, 8x, 2 texts; see docs/results.md.";

inline constexpr std::array kMeasured = {
    Measured{"nonuniform", 1.20, 0.22},
    Measured{"self_study", 1.94, 0.27},
    Measured{"on_policy", 1.41, 0.30},
    Measured{"omp", 0.83, 0.30},
    Measured{"sequential_on_policy", 2.50, 0.31},
    Measured{"refine", 0.90, 0.31},
    Measured{"chunked", 0.74, 0.31},
    Measured{"generation", 2.19, 0.31},
    Measured{"omp_refine", 2.00, 0.34},
    Measured{"context_prefill", 1.11, 0.38},
    Measured{"solver", 0.74, 0.41},
    Measured{"select", 0.18, 0.69},
    Measured{"keep_last", 0.00, 1.00},
    Measured{"keep_random", 0.00, 1.17},
    Measured{"keep_first", 0.00, 1.60},
};

} // namespace kvfold
