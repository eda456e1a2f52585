// Solve: every layer and KV head of a region, in parallel.
#pragma once

#include "base/progress.h"
#include "engine/regions.h"
#include "study/probe.h"
#include "study/study.h"

#include <functional>

namespace kvfold {

struct HeadReport {
    int layer = 0;           // the model's layer number
    int head = 0;            // KV head
    float fold_residual = 0; // as in CompactHead
    float output_error = 0;
    float mass_error = 0;
    uint32_t neutral = 0;       // of its t slots, those that no query sees
    std::vector<uint32_t> kept; // [t] indices within the region
};

struct Solution {
    std::vector<CacheTensor> keys, values; // [layers] each [t, width], in the types of the cache
    std::vector<HeadReport> heads;         // layer by layer
};

struct SolveLimits {
    int threads = 1;
    Index max_queries = StudyPlan{}.max_queries; // n at most
};

// One KV head, and what is asked of it.
struct HeadTask {
    size_t layer; // index into AttentionMap::layers
    Index head;   // KV head
    size_t index; // among all heads, as in Solution::heads
    const HeadProblem& problem;
    SolveRequest request;
};
using HeadSolver = std::function<Result<CompactHead>(const HeadTask&)>;

// The reference queries of one KV head: [n, d], thinned evenly to at most max_rows.
// layer: index into map.layers.
Matrix queries_of_head(const Study& study, const AttentionMap& map, size_t layer, Index head, Index max_rows);

// A head as the cache will hold it. layer: index into map.layers, index: into solution.heads.
CompactHead take_head(const Solution& solution, const AttentionMap& map, size_t layer, size_t index);

// Memory beside the result: a thread holds one head, (T + t) (d + dv) + n (T_block + 3 t + d + dv) floats,
// the normal equations of the bias (3 t^2 doubles), and where cells are pursued M (n + 2 t + dv) floats, M <=
// min(T, 4 t). Fails as solve_head does, naming layer and head, or with `cancelled`.
Result<Solution> solve_layers(const KvSection& section, const Regions& regions, const AttentionMap& map,
                              const Study& study, const SolvePlan& plan, const SolveLimits& limits,
                              const ProgressFn& progress);

// The same with another way to solve a head, which is called from several threads at once.
Result<Solution> solve_layers(const KvSection& section, const Regions& regions, const AttentionMap& map,
                              const Study& study, const HeadSolver& solve, const SolveLimits& limits,
                              const ProgressFn& progress);

} // namespace kvfold
