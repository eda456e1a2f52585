// The figures of docs/experiments/2026-11-26-quantisation.md; `bench/results.py advice` writes them anew.
// clang-format off
#pragma once

#include "measure/advice.h"

#include <array>

namespace kvfold {

inline constexpr std::string_view kLossesHow = "Measured on SmolLM2-135M-Instruct, 2048 tokens, refine, 2 texts, at commit 5b718f1.";

inline constexpr std::array kCacheLosses = {
    CacheLoss{GGML_TYPE_F16, 1, 0.0000},
    CacheLoss{GGML_TYPE_F16, 8, 0.0740},
    CacheLoss{GGML_TYPE_F16, 15.06, 0.1076},
    CacheLoss{GGML_TYPE_F16, 28.44, 0.1444},
    CacheLoss{GGML_TYPE_Q8_0, 1, 0.0197},
    CacheLoss{GGML_TYPE_Q8_0, 4.25, 0.0475},
    CacheLoss{GGML_TYPE_Q8_0, 8, 0.0832},
    CacheLoss{GGML_TYPE_Q8_0, 15.1, 0.1111},
    CacheLoss{GGML_TYPE_Q4_0, 1, 0.0629},
    CacheLoss{GGML_TYPE_Q4_0, 2.25, 0.0680},
    CacheLoss{GGML_TYPE_Q4_0, 4.24, 0.0940},
    CacheLoss{GGML_TYPE_Q4_0, 8, 0.1185},
};

} // namespace kvfold
