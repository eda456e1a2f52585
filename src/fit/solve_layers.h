// Solve: every layer and KV head of a region, in parallel. Heads by the processor, or layers by their
// devices.
#pragma once

#include "fit/fit.h"

#include <functional>

namespace kvfold {

// One KV head, and what is asked of it.
struct HeadTask {
    size_t layer; // index into AttentionMap::layers
    Index head;   // KV head
    size_t index; // among all heads, as in Solution::heads
    const HeadProblem& problem;
    SolveRequest request;
    const Kernels& kernels;
};
using HeadSolver = std::function<Result<CompactHead>(const HeadTask&)>;

// The reference queries of one KV head: [n, d], thinned evenly to at most max_rows; none of an empty study.
// layer: index into map.layers.
Matrix queries_of_head(const Study& study, const AttentionMap& map, size_t layer, Index head, Index max_rows);
// Of the same queries, whichever head they are of: [n]; empty: all count alike.
std::vector<float> importance_of_head(const Study& study, const AttentionMap& map, size_t layer,
                                      Index max_rows);

// A head as the cache will hold it. layer: index into map.layers, index: into solution.heads.
CompactHead head_in_cache(const Solution& solution, const AttentionMap& map, size_t layer, size_t index);

// The layers of problem.map, where problem.solve_on says. Memory beside the result: a thread of the processor
// holds one head, (T + t) (d + dv) + n (T_block + 3 t + d + dv) floats, the normal equations of the bias
// (3 t^2 doubles), and where cells are pursued M (n + 2 t + dv) floats, M <= min(T, 4 t). For a device there
// are 1.5 T (d + dv) + 2 n d floats of each of 64 heads: those that it solves, and those that come next; 2 T
// (d + dv) where halves do not hold what the cache does. Fails as solve_head does, naming layers and head,
// with `cancelled`, or with `memory` when a thread finds none. Layers whose device cannot solve them are
// solved by the processor, and Solution::solved_on says why; that is an error where a device was asked for.
Result<Solution> solve_layers(const RegionProblem& problem, const Study& study, const SolvePlan& plan);

// The same with another way to solve a head, on the processor, which is called from several threads at once.
Result<Solution> solve_layers(const RegionProblem& problem, const Study& study, const HeadSolver& by_head);

} // namespace kvfold
