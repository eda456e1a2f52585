// Written by `bench/results.py methods`: not to be edited by hand.
#pragma once

#include "method/measured.h"

#include <array>

namespace kvfold {

inline constexpr std::string_view kMeasuredHow =
    "Measured on SmolLM2-135M-Instruct, 1024 tokens, 8x, 2 texts; see docs/results.md.";

inline constexpr std::array kMeasured = {
    Measured{"nonuniform", 1.44, 0.16},
    Measured{"sequential_on_policy", 2.97, 0.23},
    Measured{"on_policy", 1.67, 0.24},
    Measured{"self_study", 2.17, 0.24},
    Measured{"refine", 0.91, 0.25},
    Measured{"chunked", 0.90, 0.25},
    Measured{"omp_refine", 1.10, 0.26},
    Measured{"generation", 2.13, 0.26},
    Measured{"omp", 0.85, 0.28},
    Measured{"solver", 0.77, 0.38},
    Measured{"context_prefill", 1.18, 0.40},
    Measured{"select", 0.20, 0.69},
    Measured{"keep_last", 0.00, 1.00},
    Measured{"keep_random", 0.00, 1.16},
    Measured{"keep_first", 0.00, 1.61},
};

} // namespace kvfold
