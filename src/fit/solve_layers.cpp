#include "fit/solve_layers.h"

#include "base/no_throw.h"
#include "base/parallel.h"
#include "device/solve_layer.h"

#include <iterator>
#include <mutex>
#include <numeric>

namespace kvfold {

namespace {

// What one thread solves: a KV head on the processor, or all heads of a layer on a device.
struct Job {
    size_t layer; // index into AttentionMap::layers
    Index head;   // the first
    Index heads;
    size_t index;              // of the first among all heads
    ggml_backend_dev_t device; // null: the processor
};

std::vector<Job> list_jobs(const AttentionMap& map, SolveOn where) {
    std::vector<Job> jobs;
    size_t index = 0;
    for (size_t i = 0; i < map.layers.size(); ++i) {
        const AttentionLayer& layer = map.layers[i];
        const ggml_backend_dev_t device = device::solving_device(where, layer.device);
        const Index each = device ? layer.kv_heads : 1;
        for (Index head = 0; head < layer.kv_heads; head += each) {
            jobs.push_back({i, head, each, index, device});
            index += static_cast<size_t>(each);
        }
    }
    return jobs;
}

// Some heads of one layer that one thread has solved.
struct Solved {
    std::vector<CompactHead> heads;
    SolvedOn on;
};

// Collects the heads of all layers and the first error; the only thing that threads share.
class Collector {
  public:
    Collector(size_t heads, const ProgressFn& progress) : heads(heads), progress_(progress) {}

    bool add(const Job& job, Result<Solved> solved, const AttentionLayer& layer) {
        const std::lock_guard lock(mutex_);
        if (!solved) {
            std::string_view what = solved.error().message;
            constexpr std::string_view kPrefix = "head: "; // solve_head does not know which
            if (what.starts_with(kPrefix)) what.remove_prefix(kPrefix.size());
            const std::string which = job.heads == 1 ? kvfold::format("KV head {}", job.head) : "a KV head";
            if (status) status = fail(solved.error().code, "layer {}, {}: {}", layer.layer, which, what);
            return false;
        }
        std::ranges::move(solved->heads, heads.begin() + static_cast<std::ptrdiff_t>(job.index));
        kvfold::add(on, solved->on);
        done_ += static_cast<size_t>(job.heads);
        if (goes_on(progress_, Stage::solve, static_cast<float>(done_) / static_cast<float>(heads.size())))
            return true;
        if (status) status = fail(ErrorCode::cancelled, "cancelled");
        return false;
    }

    std::vector<CompactHead> heads;
    SolvedOn on;
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
struct HeadRows {
    Matrix keys, values, queries;
    std::vector<float> importance;

    HeadProblem problem(const AttentionLayer& layer) const {
        return {keys, values, queries, layer.scale, layer.softcap, importance};
    }
};

HeadRows rows_of(const RegionProblem& problem, const Study& study, size_t index, Index head) {
    const AttentionLayer& layer = problem.map.layers[index];
    const KvSection& section = problem.section();
    const Index d = layer.key_width, dv = layer.value_width;
    return {head_to_float(section.keys[layer.cache], problem.regions.region, head * d, d),
            head_to_float(section.values[layer.cache], problem.regions.region, head * dv, dv),
            queries_of_head(study, problem.map, index, head, problem.study.max_queries),
            importance_of_head(study, problem.map, index, problem.study.max_queries)};
}

SolveRequest request_of(const RegionProblem& problem, const AttentionLayer& layer) {
    const CacheTensor& keys = problem.section().keys[layer.cache];
    return {problem.slots, {}, [&keys](MutableMatrixView rows) { round_rows(rows, keys.type); }};
}

Result<CompactHead> solve_head_of(const RegionProblem& problem, const Study& study, const HeadSolver& solve,
                                  const Job& job, Index head) {
    const AttentionLayer& layer = problem.map.layers[job.layer];
    const HeadRows rows = rows_of(problem, study, job.layer, head);
    const size_t index = job.index + static_cast<size_t>(head - job.head);
    return solve({job.layer, head, index, rows.problem(layer), request_of(problem, layer), problem.kernels});
}

Result<Solved> solve_on_processor(const RegionProblem& problem, const Study& study, const HeadSolver& solve,
                                  const Job& job) {
    Solved solved;
    for (Index head = job.head; head < job.head + job.heads; ++head) {
        KVFOLD_TRY(CompactHead compact, solve_head_of(problem, study, solve, job, head));
        solved.heads.push_back(std::move(compact));
    }
    if (job.head == 0) solved.on.layers = 1;
    return solved;
}

Result<Solved> solve_on_device(const device::PreparedLayer& layer, const SolvePlan& plan,
                               const SolveRequest& request, ggml_backend_dev_t device) {
    KVFOLD_TRY(const device::Lease backend, device::Lease::of(device));
    KVFOLD_TRY(auto solved, device::solve_layer(*backend, layer, plan, request));
    return Solved{std::move(solved), {1, 1, (*backend).description(), {}}};
}

// The device of the layer first, and the processor where it cannot and was not asked for.
Result<Solved> solve_job(const RegionProblem& problem, const Study& study, const SolvePlan& plan,
                         const HeadSolver& by_head, const Job& job) {
    if (!job.device) return solve_on_processor(problem, study, by_head, job);
    const AttentionLayer& layer = problem.map.layers[job.layer];
    std::vector<HeadRows> rows;
    std::vector<HeadProblem> heads;
    for (Index head = 0; head < layer.kv_heads; ++head)
        rows.push_back(rows_of(problem, study, job.layer, head));
    for (const HeadRows& each : rows)
        heads.push_back(each.problem(layer));
    const SolveRequest request = request_of(problem, layer);
    KVFOLD_TRY(const device::PreparedLayer prepared, device::prepare_layer(heads, plan, request));
    Result<Solved> solved =
        without_throwing([&] { return solve_on_device(prepared, plan, request, job.device); });
    if (solved || problem.solve_on == SolveOn::device) return solved;
    const std::string why_not = solved.error().message;
    KVFOLD_TRY(solved, solve_on_processor(problem, study, by_head, job));
    solved->on.why_not = why_not;
    return solved;
}

Result<Solution> join_solution(const RegionProblem& problem, Collector& found) {
    Solution solution{problem.slots, {}, {}, {}, std::move(found.on)};
    size_t first = 0; // head of the layer
    for (const AttentionLayer& layer : problem.map.layers) {
        const std::span heads(&found.heads[first], static_cast<size_t>(layer.kv_heads));
        const KvSection& section = problem.section();
        KVFOLD_TRY(CacheTensor keys, join_heads(heads, section.keys[layer.cache], &CompactHead::keys));
        KVFOLD_TRY(CacheTensor values, join_heads(heads, section.values[layer.cache], &CompactHead::values));
        solution.keys.push_back(std::move(keys));
        solution.values.push_back(std::move(values));
        for (Index head = 0; head < layer.kv_heads; ++head) {
            CompactHead& compact = heads[static_cast<size_t>(head)];
            solution.heads.push_back({layer.layer, static_cast<int>(head), compact.absorb_residual,
                                      compact.output_error, compact.mass_error, compact.neutral,
                                      std::move(compact.kept)});
        }
        first += heads.size();
    }
    return solution;
}

using JobSolver = std::function<Result<Solved>(const Job&)>;

Result<Solution> solve_jobs(const RegionProblem& problem, const std::vector<Job>& jobs,
                            const JobSolver& solve) {
    const size_t heads = jobs.empty() ? 0 : jobs.back().index + static_cast<size_t>(jobs.back().heads);
    Collector found(heads, problem.progress);
    parallel_for(jobs.size(), problem.threads, [&](size_t i) {
        return found.add(jobs[i], without_throwing([&] { return solve(jobs[i]); }),
                         problem.map.layers[jobs[i].layer]);
    });
    KVFOLD_CHECK(std::move(found.status));
    return join_solution(problem, found);
}

// Of a layer's study, the rows that the queries of a KV head are taken from, those of one query head after
// the other. Of more than max_rows in all an even choice, for each query head another, so that all rows are
// seen by some head.
std::vector<std::vector<Index>> chosen_rows(Index rows, Index group, Index max_rows) {
    const Index each = std::min(rows, std::max<Index>(1, max_rows / group));
    std::vector<std::vector<Index>> chosen(static_cast<size_t>(group));
    for (Index member = 0; member < group; ++member) {
        const Index shift = member * rows / std::max<Index>(1, each * group); // less than between two of them
        for (Index i = 0; i < each; ++i)
            chosen[static_cast<size_t>(member)].push_back(std::min(rows - 1, i * rows / each + shift));
    }
    return chosen;
}

} // namespace

Matrix queries_of_head(const Study& study, const AttentionMap& map, size_t index, Index kv_head,
                       Index max_rows) {
    const AttentionLayer& layer = map.layers[index];
    const Matrix& rows = study.layers[index].rows;
    const Index group = layer.heads / layer.kv_heads, d = layer.key_width;
    const auto chosen = chosen_rows(rows.rows(), group, max_rows);
    const Index each = std::ssize(chosen.front());
    Matrix queries(group * each, d);
    for (Index member = 0; member < group; ++member)
        queries.middleRows(member * each, each) =
            rows(chosen[static_cast<size_t>(member)], Eigen::seqN((kv_head * group + member) * d, d));
    return queries;
}

std::vector<float> importance_of_head(const Study& study, const AttentionMap& map, size_t index,
                                      Index max_rows) {
    if (study.importance.empty()) return {};
    const AttentionLayer& layer = map.layers[index];
    const LayerQueries& asked = study.layers[index];
    std::vector<float> importance;
    for (const std::vector<Index>& rows :
         chosen_rows(asked.rows.rows(), layer.heads / layer.kv_heads, max_rows))
        for (const Index row : rows)
            importance.push_back(study.importance[static_cast<size_t>(row / asked.readers)]);
    return importance;
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
    const auto by_head = [&plan](const HeadTask& task) {
        return task.kernels.solve_head(task.problem, plan, task.request);
    };
    auto solution = solve_jobs(problem, list_jobs(problem.map, problem.solve_on),
                               [&](const Job& job) { return solve_job(problem, study, plan, by_head, job); });
    device::release_memory();
    return solution;
}

Result<Solution> solve_layers(const RegionProblem& problem, const Study& study, const HeadSolver& solve) {
    return solve_jobs(problem, list_jobs(problem.map, SolveOn::processor),
                      [&](const Job& job) { return solve_on_processor(problem, study, solve, job); });
}

} // namespace kvfold
