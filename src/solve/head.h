// One KV head as the solver sees it: what is asked of it, how it is solved, and what it becomes.
// Letters are those of docs/notation.md. Nothing here knows llama.cpp, files or threads.
#pragma once

#include "base/matrix.h"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace kvfold {

struct HeadProblem {
    MatrixView keys;    // K: [T, d]
    MatrixView values;  // V: [T, dv]
    MatrixView queries; // Q: [n, d]
    float scale;        // factor of the logits, > 0
    float softcap = 0;  // logits become softcap * tanh(logits / softcap); 0 = off
    // u: [n] how much each query counts in every mean over the queries: one of importance 3 is one that is
    // asked three times. > 0; empty: all alike.
    std::span<const float> importance = {};
};

// What a method does with a head. Changes the result, never the cost alone.
struct SolvePlan {
    bool fit_bias =
        true; // weigh the kept keys so that the attention mass stays, and let the keys absorb the weights
    bool fit_values = true; // correct the kept values so that the attention output stays
    int refine_steps = 0;   // gradient steps between absorbing and rounding; few cells take more (refine.h)
    // Share of the cells that is found by pursuit (omp.h), 0..1; the others are those that the queries look
    // at most. Pursuit explains mass and output best, and alone drops what few queries ask for.
    float pursued = 0;
};

// Brings rows of keys to the precision of the cache, in place: rows [*, d]. Values are fitted to keys
// after this, so that they fit the keys that will really be stored. Empty = keep f32.
using RoundRows = std::function<void(MutableMatrixView rows)>;

struct SolveRequest {
    Index kept;                            // t, 1 <= t <= T
    std::span<const uint32_t> pinned = {}; // cells that must be kept, rising, at most t of them
    RoundRows round_keys = {};
};

struct CompactHead {
    std::vector<uint32_t> kept; // [t] rising indices of the cells that the rows came from
    Matrix keys;                // K': [t, d], rounded
    Matrix values;              // V': [t, dv], not rounded
    float absorb_residual = 0;  // RMS of scale * q.g - 1 over the queries; 0 when no bias was absorbed
    // Over the reference queries, each by its importance:
    float output_error = 0; // ||X V' - Y|| / ||Y||
    float mass_error = 0;   // RMS of (log-sum-exp after - before)
    uint32_t neutral = 0;   // rows among the t that no query sees (neutral.h); solve_head makes none
};

} // namespace kvfold
