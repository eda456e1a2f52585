// Written by `bench/results.py methods`: not to be edited by hand.
// clang-format off
#pragma once

#include "method/measured.h"

#include <array>

namespace kvfold {

inline constexpr std::string_view kMeasuredHow =
    "Measured on SmolLM2-135M-Instruct, 1024 tokens, 8x, 2 texts; see docs/results.md.";

inline constexpr std::array kMeasured = {
    Measured{"nonuniform", 1.66, 0.20},
    Measured{"omp_refine", 3.17, 0.23},
    Measured{"self_study", 2.24, 0.24},
    Measured{"on_policy", 1.85, 0.25},
    Measured{"refine", 1.12, 0.25},
    Measured{"chunked", 1.10, 0.25},
    Measured{"sequential_on_policy", 2.83, 0.26},
    Measured{"generation", 2.41, 0.26},
    Measured{"omp", 0.75, 0.30},
    Measured{"context_prefill", 1.26, 0.36},
    Measured{"solver", 0.66, 0.42},
    Measured{"select", 0.18, 0.69},
    Measured{"keep_last", 0.00, 1.00},
    Measured{"keep_random", 0.00, 1.20},
    Measured{"keep_first", 0.00, 1.60},
};

} // namespace kvfold
