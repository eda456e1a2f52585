#include "engine/sequential.h"

#include "base/timer.h"
#include "engine/study_region.h"
#include "solve/attention.h"
#include "solve/neutral.h"

#include <algorithm>
#include <iterator>

namespace kvfold {

namespace {

// Layers [first, first + count) of a map or of a section.
AttentionMap take_layers(const AttentionMap& map, size_t first, size_t count) {
    AttentionMap part = map;
    const auto begin = map.layers.begin() + static_cast<std::ptrdiff_t>(first);
    part.layers.assign(begin, begin + static_cast<std::ptrdiff_t>(count));
    return part;
}

KvSection take_layers(const KvSection& section, size_t first, size_t count) {
    KvSection part = take_cells(section, {});
    part.cells = section.cells;
    for (size_t i = 0; i < count; ++i) {
        part.keys[i] = section.keys[first + i];
        part.values[i] = section.values[first + i];
    }
    part.keys.resize(count);
    part.values.resize(count);
    return part;
}

// One layer's region in f32: [T, width].
struct LayerRows {
    Matrix keys, values;
};

// Puts the rows of a folded head into the cells that they came from, and makes its others neutral. Leaves the
// cells as they are, and returns false, when no neutral key exists.
Result<bool> place_head(const AttentionLayer& layer, Index head, const CompactHead& compact,
                        const Matrix& queries, const RoundRows& round, LayerRows& rows) {
    const HeadProblem problem{compact.keys, compact.values, queries, layer.scale, layer.softcap};
    const Vector mass = attend_compact(problem, compact.keys).mass;
    KVFOLD_TRY(const std::optional<Vector> neutral, neutral_key(problem, mass, round));
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

// The layers of `group`, which begin at `first` in `cache`, become as compact as its cells allow. Returns how
// many heads had to stay full.
Result<Index> place_layers(const AttentionMap& group, size_t first, const Study& study,
                           const Solution& solution, const Regions& regions, Index max_queries,
                           KvSection& cache) {
    Index left_full = 0;
    size_t index = 0;
    for (size_t i = 0; i < group.layers.size(); ++i) {
        CacheTensor& keys = cache.keys[first + i];
        CacheTensor& values = cache.values[first + i];
        const auto round = [&keys](MutableMatrixView rows) { round_rows(rows, keys.type); };
        LayerRows rows{head_to_float(keys, regions.region, 0, keys.width),
                       head_to_float(values, regions.region, 0, values.width)};
        for (Index head = 0; head < group.layers[i].kv_heads; ++head) {
            const Matrix queries = queries_of_head(study, group, i, head, max_queries);
            const CompactHead compact = take_head(solution, group, i, index++);
            KVFOLD_TRY(const bool placed, place_head(group.layers[i], head, compact, queries, round, rows));
            if (!placed) ++left_full;
        }
        KVFOLD_CHECK(put_region(rows.keys, regions.region, keys));
        KVFOLD_CHECK(put_region(rows.values, regions.region, values));
    }
    return left_full;
}

void append_layers(Solution& all, Solution group) {
    std::move(group.keys.begin(), group.keys.end(), std::back_inserter(all.keys));
    std::move(group.values.begin(), group.values.end(), std::back_inserter(all.values));
    std::move(group.heads.begin(), group.heads.end(), std::back_inserter(all.heads));
}

} // namespace

Result<Solution> fit_sequentially(llama_model* model, const AttentionMap& map, const SequenceState& snapshot,
                                  const CompactRequest& request, CompactReport& report) {
    const KvSection& full = snapshot.sections.front();
    const size_t layers = map.layers.size(), step = (layers + kLayerGroups - 1) / kLayerGroups;
    SequenceState partly = snapshot;
    Solution all;
    for (size_t first = 0; first < layers; first += step) {
        const size_t count = std::min(step, layers - first);
        const AttentionMap group = take_layers(map, first, count);
        const Timer study_timer;
        KVFOLD_TRY(const Study study, study_region(model, group, partly, report.regions, request));
        report.study_s += study_timer.seconds();
        report.study_tokens = study.tokens();

        const Timer solve_timer;
        KVFOLD_TRY(Solution solution,
                   solve_layers(take_layers(full, first, count), report.regions, group, study,
                                request.method->solve, request.solve_limits(), request.progress));
        if (first + count < layers) {
            KVFOLD_TRY(const Index left_full,
                       place_layers(group, first, study, solution, report.regions,
                                    request.method->study.max_queries, partly.sections.front()));
            report.heads_left_full += left_full;
        }
        append_layers(all, std::move(solution));
        report.solve_s += solve_timer.seconds();
    }
    return all;
}

} // namespace kvfold
