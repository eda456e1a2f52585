// Solve: every layer and KV head of a region, in parallel.
#pragma once

#include "base/progress.h"
#include "engine/regions.h"
#include "study/probe.h"
#include "study/study.h"

namespace kvfold {

struct HeadReport {
    int layer = 0;           // the model's layer number
    int head = 0;            // KV head
    float fold_residual = 0; // as in CompactHead
    float output_error = 0;
    float mass_error = 0;
    std::vector<uint32_t> kept; // [t] indices within the region
};

struct Solution {
    std::vector<CacheTensor> keys, values; // [layers] each [t, width], in the types of the cache
    std::vector<HeadReport> heads;         // layer by layer
};

struct SolveLimits {
    int threads = 1;
};

// Memory beside the result: a thread holds one head, (T + t) (d + dv) + n (T_block + 3 t + d + dv) floats, the normal
// equations of the bias (3 t^2 doubles), and with Selection::omp M (n + 2 t + dv) floats, M = min(T, 4 t).
// Fails as solve_head does, naming layer and head, or with `cancelled`.
Result<Solution> solve_layers(const KvSection& section, const Regions& regions, const AttentionMap& map,
                              const Study& study, const SolvePlan& plan, const SolveLimits& limits,
                              const ProgressFn& progress);

} // namespace kvfold
