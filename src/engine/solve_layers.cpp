#include "engine/solve_layers.h"

#include "engine/parallel.h"

#include <mutex>

namespace kvfold {

namespace {

// The queries of one KV head: the rows of its query heads stacked, thinned evenly to at most max_rows.
// Each query head takes other tokens, so that all of them are seen by some head.
Matrix stack_queries(const Matrix& rows, const AttentionLayer& layer, Index kv_head, Index max_rows) {
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
                               Matrix CompactHead::*part) {
    Matrix rows((heads.front().*part).rows(), like.width);
    Index col = 0;
    for (const CompactHead& head : heads) {
        rows.middleCols(col, (head.*part).cols()) = head.*part;
        col += (head.*part).cols();
    }
    return from_float(rows, like.type, like.transposed);
}

} // namespace

Result<Solution> solve_layers(const KvSection& section, const Regions& regions, const AttentionMap& map,
                              const Study& study, const SolvePlan& plan, const SolveLimits& limits,
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
        const Matrix q = stack_queries(study.layers[index].rows, layer, head, plan.max_queries);
        const auto round = [&keys](MutableMatrixView rows) { round_rows(rows, keys.type); };
        return found.add(i,
                         solve_head({k, v, q, layer.scale, layer.softcap}, plan, {regions.folded, {}, round}),
                         layer, head);
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
                                  head.fold_residual, head.output_error, head.mass_error,
                                  std::move(head.kept)});
    }
    return solution;
}

} // namespace kvfold
