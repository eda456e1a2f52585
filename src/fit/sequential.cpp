#include "fit/sequential.h"

#include "base/timer.h"
#include "fit/solve_layers.h"
#include "fit/study_region.h"
#include "solve/neutral.h"

#include <algorithm>
#include <iterator>

namespace kvfold {

namespace {

// Layers [first, first + count).
AttentionMap take_layers(const AttentionMap& map, size_t first, size_t count) {
    AttentionMap part = map;
    const auto begin = map.layers.begin() + static_cast<std::ptrdiff_t>(first);
    part.layers.assign(begin, begin + static_cast<std::ptrdiff_t>(count));
    return part;
}

// One layer's region in f32: [T, width].
struct LayerRows {
    Matrix keys, values;
};

// Puts the rows of a folded head into the cells that they came from, and makes its others neutral. Leaves the
// cells as they are, and returns false, when no neutral key exists.
Result<bool> place_head(const Kernels& kernels, const AttentionLayer& layer, Index head,
                        const CompactHead& compact, const Matrix& queries, const RoundRows& round,
                        LayerRows& rows) {
    const HeadProblem problem{compact.keys, compact.values, queries, layer.scale, layer.softcap};
    const Vector mass = kernels.attend_compact(problem, compact.keys).mass;
    KVFOLD_TRY(const std::optional<Vector> neutral, kernels.neutral_key(problem, mass, round));
    if (!neutral) return false;
    const CompactHead spread = spread_head(compact, *neutral, compact.kept, rows.keys.rows());
    rows.keys.middleCols(head * layer.key_width, layer.key_width) = spread.keys;
    rows.values.middleCols(head * layer.value_width, layer.value_width) = spread.values;
    return true;
}

Status put_region(const Matrix& region, std::span<const uint32_t> cells, CacheTensor& tensor) {
    Matrix rows = to_float(tensor);
    for (size_t i = 0; i < cells.size(); ++i)
        rows.row(cells[i]) = region.row(static_cast<Index>(i));
    KVFOLD_TRY(tensor, from_float(rows, tensor.type, tensor.transposed));
    return {};
}

// The layers that were solved become as compact as the cells of `cache` allow. Returns how many heads had to
// stay full.
Result<Index> place_layers(const RegionProblem& problem, const Study& study, const Solution& solution,
                           KvSection& cache) {
    Index left_full = 0;
    size_t index = 0;
    for (size_t i = 0; i < problem.map.layers.size(); ++i) {
        const AttentionLayer& layer = problem.map.layers[i];
        const std::vector<uint32_t>& region = problem.regions.region;
        CacheTensor& keys = cache.keys[layer.cache];
        CacheTensor& values = cache.values[layer.cache];
        const auto round = [&keys](MutableMatrixView rows) { round_rows(rows, keys.type); };
        LayerRows rows{head_to_float(keys, region, 0, keys.width),
                       head_to_float(values, region, 0, values.width)};
        for (Index head = 0; head < layer.kv_heads; ++head) {
            const Matrix queries = queries_of_head(study, problem.map, i, head, problem.study.max_queries);
            const CompactHead compact = head_in_cache(solution, problem.map, i, index++);
            KVFOLD_TRY(const bool placed,
                       place_head(problem.kernels, layer, head, compact, queries, round, rows));
            if (!placed) ++left_full;
        }
        KVFOLD_CHECK(put_region(rows.keys, region, keys));
        KVFOLD_CHECK(put_region(rows.values, region, values));
    }
    return left_full;
}

void append_layers(Solution& all, Solution group) {
    std::move(group.keys.begin(), group.keys.end(), std::back_inserter(all.keys));
    std::move(group.values.begin(), group.values.end(), std::back_inserter(all.values));
    add(all.solved_on, group.solved_on);
    std::move(group.heads.begin(), group.heads.end(), std::back_inserter(all.heads));
}

} // namespace

Result<Fitted> fit_sequentially(const RegionProblem& problem) {
    const size_t layers = problem.map.layers.size(), step = (layers + kLayerGroups - 1) / kLayerGroups;
    SequenceState partly = problem.snapshot;
    Fitted all;
    all.solution.slots = problem.slots;
    Index left_full = 0;
    for (size_t first = 0; first < layers; first += step) {
        const size_t count = std::min(step, layers - first);
        const AttentionMap group = take_layers(problem.map, first, count);
        const Timer study_timer;
        KVFOLD_TRY(const Study study, study_region(problem.with(group, partly)));
        all.study_s += study_timer.seconds();
        all.study_tokens = study.tokens();

        const Timer solve_timer;
        const RegionProblem full = problem.with(group, problem.snapshot);
        KVFOLD_TRY(Solution solution, solve_layers(full, study, problem.solve));
        if (first + count < layers) {
            KVFOLD_TRY(const Index heads, place_layers(full, study, solution, partly.sections.front()));
            left_full += heads;
        }
        append_layers(all.solution, std::move(solution));
        all.solve_s += solve_timer.seconds();
    }
    all.figures = {{"heads left full", static_cast<double>(left_full)}};
    return all;
}

} // namespace kvfold
