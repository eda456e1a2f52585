#include "engine/solve_layers.h"

#include "engine/parallel.h"

#include <mutex>
#include <numeric>

namespace kvfold {

namespace {

struct Job {
    size_t layer; // index into AttentionMap::layers
    Index head;
};

std::vector<Job> list_jobs(const AttentionMap& map) {
    std::vector<Job> jobs;
    for (size_t layer = 0; layer < map.layers.size(); ++layer) {
        for (Index head = 0; head < map.layers[layer].kv_heads; ++head)
            jobs.push_back({layer, head});
    }
    return jobs;
}

// Collects the heads of all layers and the first error; the only thing that threads share.
class Collector {
  public:
    Collector(size_t jobs, const ProgressFn& progress) : heads(jobs), progress_(progress) {}

    bool add(size_t job, Result<CompactHead> head, const AttentionLayer& layer, Index kv_head) {
        const std::lock_guard lock(mutex_);
        if (!head) {
            std::string_view what = head.error().message;
            constexpr std::string_view kPrefix = "head: "; // solve_head does not know which
            if (what.starts_with(kPrefix)) what.remove_prefix(kPrefix.size());
            if (status)
                status = fail(head.error().code, "layer {}, KV head {}: {}", layer.layer, kv_head, what);
            return false;
        }
        heads[job] = std::move(*head);
        ++done_;
        if (goes_on(progress_, Stage::solve, static_cast<float>(done_) / static_cast<float>(heads.size())))
            return true;
        if (status) status = fail(ErrorCode::cancelled, "cancelled");
        return false;
    }

    std::vector<CompactHead> heads;
    Status status;

  private:
    const ProgressFn& progress_;
    std::mutex mutex_;
    size_t done_ = 0;
};

// heads: the KV heads of one layer, side by side in the rows of the cache.
Result<CacheTensor> join_heads(std::span<const CompactHead> heads, const CacheTensor& like,
                               Matrix CompactHead::* part) {
    Matrix rows((heads.front().*part).rows(), like.width);
    Index col = 0;
    for (const CompactHead& head : heads) {
        rows.middleCols(col, (head.*part).cols()) = head.*part;
        col += (head.*part).cols();
    }
    return from_float(rows, like.type, like.transposed);
}

} // namespace

// The rows of the query heads are stacked, and each takes other tokens, so that all of them are seen by some
// head.
Matrix queries_of_head(const Study& study, const AttentionMap& map, size_t index, Index kv_head,
                       Index max_rows) {
    const AttentionLayer& layer = map.layers[index];
    const Matrix& rows = study.layers[index].rows;
    const Index group = layer.heads / layer.kv_heads, d = layer.key_width, tokens = rows.rows();
    const Index each = std::min(tokens, std::max<Index>(1, max_rows / group));
    Matrix queries(group * each, d);
    for (Index member = 0; member < group; ++member) {
        const Index shift = member * tokens / (each * group); // less than the distance between two tokens
        for (Index i = 0; i < each; ++i) {
            const Index token = std::min(tokens - 1, i * tokens / each + shift);
            queries.row(member * each + i) = rows.row(token).segment((kv_head * group + member) * d, d);
        }
    }
    return queries;
}

CompactHead take_head(const Solution& solution, const AttentionMap& map, size_t layer, size_t index) {
    const HeadReport& report = solution.heads[index];
    const Index d = map.layers[layer].key_width, dv = map.layers[layer].value_width;
    std::vector<uint32_t> slots(report.kept.size());
    std::iota(slots.begin(), slots.end(), 0u);
    return {.kept = report.kept,
            .keys = head_to_float(solution.keys[layer], slots, report.head * d, d),
            .values = head_to_float(solution.values[layer], slots, report.head * dv, dv),
            .fold_residual = report.fold_residual,
            .output_error = report.output_error,
            .mass_error = report.mass_error,
            .neutral = report.neutral};
}

Result<Solution> solve_layers(const KvSection& section, const Regions& regions, const AttentionMap& map,
                              const Study& study, const SolvePlan& plan, const SolveLimits& limits,
                              const ProgressFn& progress) {
    const auto solve = [&plan](const HeadTask& task) { return solve_head(task.problem, plan, task.request); };
    return solve_layers(section, regions, map, study, solve, limits, progress);
}

Result<Solution> solve_layers(const KvSection& section, const Regions& regions, const AttentionMap& map,
                              const Study& study, const HeadSolver& solve, const SolveLimits& limits,
                              const ProgressFn& progress) {
    const std::vector<Job> jobs = list_jobs(map);
    Collector found(jobs.size(), progress);
    parallel_for(jobs.size(), limits.threads, [&](size_t i) {
        const auto [index, head] = jobs[i];
        const AttentionLayer& layer = map.layers[index];
        const CacheTensor& keys = section.keys[index];
        const Index d = layer.key_width, dv = layer.value_width;
        const Matrix k = head_to_float(keys, regions.region, head * d, d);
        const Matrix v = head_to_float(section.values[index], regions.region, head * dv, dv);
        const Matrix q = queries_of_head(study, map, index, head, limits.max_queries);
        const auto round = [&keys](MutableMatrixView rows) { round_rows(rows, keys.type); };
        const HeadProblem problem{k, v, q, layer.scale, layer.softcap};
        return found.add(i, solve({index, head, i, problem, {regions.folded, {}, round}}), layer, head);
    });
    KVFOLD_CHECK(std::move(found.status));

    Solution solution;
    for (size_t job = 0; job < jobs.size();
         job += static_cast<size_t>(map.layers[jobs[job].layer].kv_heads)) {
        const size_t index = jobs[job].layer;
        const std::span heads(&found.heads[job], static_cast<size_t>(map.layers[index].kv_heads));
        KVFOLD_TRY(CacheTensor keys, join_heads(heads, section.keys[index], &CompactHead::keys));
        KVFOLD_TRY(CacheTensor values, join_heads(heads, section.values[index], &CompactHead::values));
        solution.keys.push_back(std::move(keys));
        solution.values.push_back(std::move(values));
    }
    for (size_t job = 0; job < jobs.size(); ++job) {
        CompactHead& head = found.heads[job];
        solution.heads.push_back({map.layers[jobs[job].layer].layer, static_cast<int>(jobs[job].head),
                                  head.fold_residual, head.output_error, head.mass_error, head.neutral,
                                  std::move(head.kept)});
    }
    return solution;
}

} // namespace kvfold
