// Speed of a full and of compact caches, and what kvfold costs a context that it leaves full.
#pragma once

#include "engine/compact.h"
#include "model/context.h"

#include <functional>
#include <optional>
#include <string_view>
#include <vector>

namespace kvfold {

struct BenchRequest {
    std::span<const llama_token> tokens; // what the full cache holds; speed does not depend on the text
    const SequenceState* full =
        nullptr; // the cells of the tokens, when they were read before; null = they are read
    std::vector<double> ratios = {1, 2, 4, 8, 16};
    const Method* method = &default_method();
    int rounds = 5;         // of interleaved measurements
    int decode_tokens = 16; // decoded one at a time in each measurement
    int turn_tokens = 64;   // prefilled in one piece behind them
    llama_context_params context = llama_context_default_params(); // n_ctx is replaced
    Adapters adapters;                                             // of all contexts
    uint64_t seed = 1;
    SolveOn solve_on = SolveOn::automatic;
    ProgressFn progress;                                // of each compaction
    std::function<void(std::string_view, double)> step; // what is done now, and how much of it, 0..1
};

struct Spread {
    double median = 0, min = 0, max = 0;
};

struct BenchRow {
    double ratio = 1;
    size_t cells = 0;
    Spread decode_tok_s; // tokens a second, one at a time
    Spread turn_ms;      // milliseconds for the tokens of a next turn
    double speedup = 1;  // decode_tok_s against the full cache in the same context
    CompactReport report;
    std::optional<size_t> peak_extra_bytes; // of the compaction, beyond what was resident before
};

struct BenchReport {
    double prefill_s = 0;       // 0 = it was read before
    std::vector<BenchRow> rows; // one a ratio
    Spread stock_tok_s;         // a context that llama.cpp alone filled and that kvfold never touches
    Spread kvfold_tok_s;        // the full cache, read and put back by kvfold
    double overhead = 0;        // stock / kvfold - 1
    std::optional<size_t> peak_extra_bytes; // the largest of all compactions
};

// Prefills two contexts of the model, or puts request.full into them, one of them out of kvfold's sight;
// compacts the other's sequence once a ratio; checks that each state comes back with the cells it should
// have; only then measures, all states in turn in each round. REQUIRES: ratios >= 1 that the method can
// reach. Fails as compact_sequence.
Result<BenchReport> bench(llama_model* model, const BenchRequest& request);

} // namespace kvfold
