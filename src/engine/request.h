// What a compaction is asked to do, and what it reports.
#pragma once

#include "base/progress.h"
#include "engine/kept_folds.h"
#include "method/effort.h"
#include "method/method.h"
#include "model/adapters.h"

#include <llama.h>

#include <algorithm>
#include <optional>
#include <vector>

namespace kvfold {

struct CompactRequest {
    const Method* method = &default_method();
    Budget budget;
    // The same with the cells of earlier folds, for prepare_fold (fold_task.h), which takes it where it has
    // all of their originals.
    std::optional<Budget> together;
    // Of the sequence: token i at position i, LLAMA_TOKEN_NULL where no token stands (images, removed cells).
    // Baselines and generation need none.
    TokenSpan tokens;
    // Token sequences that will come behind the sequence, where the caller knows some: methods that study the
    // text read them too.
    std::vector<std::vector<llama_token>> expected;
    // The queries that the newest tokens asked when they were read (study/listen.h): as far as they reach,
    // the newest tokens are not read again. Null: nobody listened.
    const Study* heard = nullptr;
    llama_context_params context = llama_context_default_params(); // how the user's context was made
    Adapters adapters;                                             // that it has
    uint64_t seed = 1;
    // By somebody: the method may cost less then, and prepare_fold (fold_task.h) has fewer cells folded at
    // once.
    bool is_awaited = false;
    // Of the region that are folded at once (folded_at_once in policy.h), fewer where there is no memory for
    // a study of so many; 0: as many as the method takes, or it fails.
    size_t most_cells = 0;
    SolveOn solve_on = SolveOn::automatic;
    int threads = 0; // for study and solve; 0 = as many as llama.cpp uses in the user's context
    ProgressFn progress;
    KeptFolds* kept = nullptr; // gets what the fold replaces, and a fold of a fold is made of what it has
};

// Cells of the region that are folded at once; 0: all.
inline size_t most_at_once(const CompactRequest& request) {
    const size_t asked = request.most_cells, method = request.method->chunk;
    return asked == 0 || method == 0 ? std::max(asked, method) : std::min(asked, method);
}

struct CompactReport {
    size_t cells_before = 0, cells_after = 0;
    size_t bytes_before = 0, bytes_after = 0; // of the sequence state; 0 where no context was written
    Regions regions;                          // folded: as many cells as the region really became
    Index study_tokens = 0;                   // whose queries were used; n before thinning
    // What the method's budget bought, and what that was expected to cost (method/effort.h): means over the
    // chunks. 0 where the method's plans are as written.
    float effort = 0;
    Cost expected = {};
    double snapshot_s = 0, study_s = 0, solve_s = 0, swap_s = 0;
    SolvedOn solved_on;                    // no layers for baselines
    std::vector<HeadReport> heads;         // empty for baselines
    std::vector<int32_t> region_positions; // of the cells that heads kept some of; empty for baselines
    std::vector<Figure> figures;           // of the method's own fit strategy
};

struct CompactState {
    SequenceState state;
    CompactReport report;
};

} // namespace kvfold
