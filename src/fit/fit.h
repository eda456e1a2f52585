// What it means to fit a region: to study it, to solve it, and to say what became of its cells.
//
// How that is done is a *fit strategy*, one file each in this folder, named by the method's table entry:
// at_once, on_policy, sequential, nonuniform.
#pragma once

#include "base/progress.h"
#include "device/devices.h"
#include "fit/regions.h"
#include "model/adapters.h"
#include "model/probe.h"
#include "solve/kernels.h"
#include "study/study.h"

#include <llama.h>

#include <string_view>

namespace kvfold {

// The region of a snapshot that is to become `slots` cells, and all that study and solve may use for it.
// What it refers to outlives it.
struct RegionProblem {
    llama_model* model;
    const AttentionMap& map;       // the layers to fit
    const SequenceState& snapshot; // holds the region and what stands around it
    const Regions& regions;        // of the snapshot's first section
    uint32_t slots;                // t: cells that the region becomes
    StudyPlan study;
    SolvePlan solve;
    TokenSpan tokens;                                      // as CompactRequest::tokens
    const std::vector<std::vector<llama_token>>& expected; // as CompactRequest::expected
    const Study* heard;                                    // as CompactRequest::heard
    const llama_context_params& context;                   // how the user's context was made
    const Adapters& adapters;                              // that it has
    uint64_t seed;                                         // of the study
    int threads;                                           // of study and solve
    const ProgressFn& progress;
    const Kernels& kernels; // that solve its heads where no device does
    SolveOn solve_on = SolveOn::automatic;

    const KvSection& section() const { return snapshot.sections.front(); }

    // The same region with other layers to fit, in a cache that holds it differently, so that nothing was
    // heard.
    RegionProblem with(const AttentionMap& layers, const SequenceState& cache) const {
        return {model,    layers,  cache,   regions,  slots, study,   solve,    tokens,
                expected, nullptr, context, adapters, seed,  threads, progress, kernels, solve_on};
    }
};

struct HeadReport {
    int layer = 0;             // the model's layer number
    int head = 0;              // KV head
    float absorb_residual = 0; // as in CompactHead
    float output_error = 0;
    float mass_error = 0;
    uint32_t neutral = 0;       // of its t slots, those that no query sees
    std::vector<uint32_t> kept; // [t] indices within the region
};

struct Solution {
    uint32_t slots = 0;                    // t
    std::vector<CacheTensor> keys, values; // [layers] each [t, width], in the types of the cache
    std::vector<HeadReport> heads;         // layer by layer
    SolvedOn solved_on;
};

// What one strategy alone has to report: a count over all heads, which adds up over the chunks of a region.
// Who shows figures shows them by their names and knows nothing else of them.
struct Figure {
    std::string_view name; // words with spaces; a string literal
    double value = 0;
};

struct Fitted {
    Solution solution;
    Index study_tokens = 0; // whose queries were used
    double study_s = 0, solve_s = 0;
    std::vector<Figure> figures;
};

// Fails with invalid_argument, unsupported, cancelled, numeric, memory or llama.
using FitStrategy = Result<Fitted> (*)(const RegionProblem& problem);

} // namespace kvfold
