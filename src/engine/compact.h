// The straight line: snapshot -> study -> solve -> swap.
#pragma once

#include "base/progress.h"
#include "engine/regions.h"
#include "engine/solve_layers.h"

#include <llama.h>

#include <vector>

namespace kvfold {

struct CompactRequest {
    const Method* method = &default_method();
    Budget budget;
    // Of the sequence: token i at position i, LLAMA_TOKEN_NULL where no token stands (images, removed cells).
    // Baselines and generation need none.
    std::span<const llama_token> tokens;
    // Token sequences that will come behind the sequence, where the caller knows some: methods that study the
    // text read them too, with each of them no longer than kLongestPassage.
    std::vector<std::vector<llama_token>> expected;
    llama_context_params context = llama_context_default_params(); // how the user's context was made
    uint64_t seed = 1;
    int threads = 0; // for study and solve; 0 = as many as llama.cpp uses in the user's context
    ProgressFn progress;

    SolveLimits solve_limits() const { return {threads, method->study.max_queries}; }
};

struct CompactReport {
    size_t cells_before = 0, cells_after = 0;
    double neutral_cells = 0; // of cells_after, those that a head with a budget of its own does not see: mean
    size_t bytes_before = 0, bytes_after = 0; // of the sequence state
    Regions regions;
    Index study_tokens = 0; // whose queries were used; n before thinning
    double snapshot_s = 0, study_s = 0, solve_s = 0, swap_s = 0;
    std::vector<HeadReport> heads; // empty for baselines
    Index heads_refitted = 0;      // by on-policy queries (on_policy.h)
    Index heads_left_full = 0;     // in the scratch context of a study by layers (sequential.h)

    // That a head sees, on average.
    double logical_cells() const { return static_cast<double>(cells_after) - neutral_cells; }
};

struct CompactState {
    SequenceState state;
    CompactReport report;
};

// Study and solve on a snapshot: touches no context but its own, so it can run in any thread while the
// model's other contexts go on. Fails with invalid_argument, unsupported, cancelled, numeric or llama.
Result<CompactState> compact_state(llama_model* model, const SequenceState& snapshot,
                                   const CompactRequest& request);

// The whole line on a sequence of the user's context. On failure, cancelling included, the sequence is what
// it was; the context's logits are not touched.
Result<CompactReport> compact_sequence(llama_context* ctx, llama_seq_id seq_id,
                                       const CompactRequest& request);

} // namespace kvfold
