#include "fit/solve_layers.h"

#include "base/no_throw.h"
#include "base/parallel.h"

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
                               Matrix CompactHead::*part) {
    Matrix rows((heads.front().*part).rows(), like.width);
    Index col = 0;
    for (const CompactHead& head : heads) {
        rows.middleCols(col, (head.*part).cols()) = head.*part;
        col += (head.*part).cols();
    }
    return from_float(rows, like.type, like.transposed);
}

// What the layer's cache holds of a head's region, and what it is asked.
Result<CompactHead> solve_job(const RegionProblem& problem, const Study& study, const HeadSolver& solve,
                              const Job& job, size_t index) {
    const AttentionLayer& layer = problem.map.layers[job.layer];
    const KvSection& section = problem.section();
    const CacheTensor& keys = section.keys[layer.cache];
    const Index d = layer.key_width, dv = layer.value_width;
    const Matrix k = head_to_float(keys, problem.regions.region, job.head * d, d);
    const Matrix v = head_to_float(section.values[layer.cache], problem.regions.region, job.head * dv, dv);
    const Matrix q = queries_of_head(study, problem.map, job.layer, job.head, problem.study.max_queries);
    const auto round = [&keys](MutableMatrixView rows) { round_rows(rows, keys.type); };
    const HeadProblem head{k, v, q, layer.scale, layer.softcap};
    return solve({job.layer, job.head, index, head, {problem.slots, {}, round}, problem.kernels});
}

Result<Solution> join_solution(const RegionProblem& problem, const std::vector<Job>& jobs,
                               std::vector<CompactHead> found) {
    Solution solution{problem.slots, {}, {}, {}};
    size_t first = 0; // head of the layer
    for (const AttentionLayer& layer : problem.map.layers) {
        const std::span heads(&found[first], static_cast<size_t>(layer.kv_heads));
        const KvSection& section = problem.section();
        KVFOLD_TRY(CacheTensor keys, join_heads(heads, section.keys[layer.cache], &CompactHead::keys));
        KVFOLD_TRY(CacheTensor values, join_heads(heads, section.values[layer.cache], &CompactHead::values));
        solution.keys.push_back(std::move(keys));
        solution.values.push_back(std::move(values));
        first += heads.size();
    }
    for (size_t i = 0; i < jobs.size(); ++i) {
        CompactHead& head = found[i];
        solution.heads.push_back({problem.map.layers[jobs[i].layer].layer, static_cast<int>(jobs[i].head),
                                  head.absorb_residual, head.output_error, head.mass_error, head.neutral,
                                  std::move(head.kept)});
    }
    return solution;
}

} // namespace

// The rows of the query heads are stacked, and each takes other tokens, so that all of them are seen by some
// head.
Matrix queries_of_head(const Study& study, const AttentionMap& map, size_t index, Index kv_head,
                       Index max_rows) {
    const AttentionLayer& layer = map.layers[index];
    const Matrix& rows = study.layers[index].rows;
    const Index group = layer.heads / layer.kv_heads, d = layer.key_width, tokens = rows.rows();
    if (tokens == 0) return Matrix(0, d);
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

CompactHead head_in_cache(const Solution& solution, const AttentionMap& map, size_t layer, size_t index) {
    const HeadReport& report = solution.heads[index];
    const Index d = map.layers[layer].key_width, dv = map.layers[layer].value_width;
    std::vector<uint32_t> slots(report.kept.size());
    std::iota(slots.begin(), slots.end(), 0u);
    return {.kept = report.kept,
            .keys = head_to_float(solution.keys[layer], slots, report.head * d, d),
            .values = head_to_float(solution.values[layer], slots, report.head * dv, dv),
            .absorb_residual = report.absorb_residual,
            .output_error = report.output_error,
            .mass_error = report.mass_error,
            .neutral = report.neutral};
}

Result<Solution> solve_layers(const RegionProblem& problem, const Study& study, const SolvePlan& plan) {
    return solve_layers(problem, study, [&plan](const HeadTask& task) {
        return task.kernels.solve_head(task.problem, plan, task.request);
    });
}

Result<Solution> solve_layers(const RegionProblem& problem, const Study& study, const HeadSolver& solve) {
    const std::vector<Job> jobs = list_jobs(problem.map);
    Collector found(jobs.size(), problem.progress);
    parallel_for(jobs.size(), problem.threads, [&](size_t i) {
        return found.add(i, without_throwing([&] { return solve_job(problem, study, solve, jobs[i], i); }),
                         problem.map.layers[jobs[i].layer], jobs[i].head);
    });
    KVFOLD_CHECK(std::move(found.status));
    return join_solution(problem, jobs, std::move(found.heads));
}

} // namespace kvfold
