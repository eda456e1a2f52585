#include "fit/solve_layers.h"

#include "base/no_throw.h"
#include "base/parallel.h"
#include "device/solve_heads.h"

#include <iterator>
#include <mutex>
#include <numeric>

namespace kvfold {

namespace {

// What one thread solves: a KV head on the processor, or all heads of some layers on a device.
struct Job {
    size_t layer, layers;      // the first, an index into AttentionMap::layers, and how many in a row
    Index head;                // the first
    Index heads;               // of each of these layers
    size_t index;              // of the first among all heads
    ggml_backend_dev_t device; // null: the processor

    size_t all_heads() const { return layers * static_cast<size_t>(heads); }
};

// Heads that a device solves together, about: a device starts a kernel in the time that it takes for some
// heads, and layers of a few heads would wait for little else.
constexpr Index kHeadsTogether = 32;
constexpr int kJobsOfDevices = 2; // at a time: one is solved, and the next one is prepared

// Whether their heads can be solved together.
bool are_alike(const AttentionLayer& a, const AttentionLayer& b) {
    return a.heads == b.heads && a.kv_heads == b.kv_heads && a.readers == b.readers &&
           a.key_width == b.key_width && a.value_width == b.value_width && a.softcap == b.softcap;
}

std::vector<Job> list_jobs(const AttentionMap& map, SolveOn where) {
    std::vector<Job> jobs;
    size_t index = 0;
    for (size_t i = 0; i < map.layers.size(); ++i) {
        const AttentionLayer& layer = map.layers[i];
        const ggml_backend_dev_t device = device::solving_device(where, layer.device);
        const Index each = device ? layer.kv_heads : 1;
        for (Index head = 0; head < layer.kv_heads; head += each) {
            const bool joins = device && !jobs.empty() && jobs.back().device == device &&
                               are_alike(map.layers[jobs.back().layer], layer) &&
                               static_cast<Index>(jobs.back().all_heads()) + each <= kHeadsTogether;
            if (joins)
                ++jobs.back().layers;
            else
                jobs.push_back({i, 1, head, each, index, device});
            index += static_cast<size_t>(each);
        }
    }
    return jobs;
}

// The heads of a job that one thread has solved.
struct Solved {
    std::vector<CompactHead> heads;
    SolvedOn on;
};

// Collects the heads of all layers and the first error; the only thing that threads share.
class Collector {
  public:
    Collector(size_t heads, const ProgressFn& progress) : heads(heads), progress_(progress) {}

    bool add(const Job& job, Result<Solved> solved, const AttentionMap& map) {
        const std::lock_guard lock(mutex_);
        if (!solved) {
            std::string_view what = solved.error().message;
            constexpr std::string_view kPrefix = "head: "; // solve_head does not know which
            if (what.starts_with(kPrefix)) what.remove_prefix(kPrefix.size());
            if (status) status = fail(solved.error().code, "{}: {}", name_of(job, map), what);
            return false;
        }
        std::ranges::move(solved->heads, heads.begin() + static_cast<std::ptrdiff_t>(job.index));
        kvfold::add(on, solved->on);
        done_ += job.all_heads();
        if (goes_on(progress_, Stage::solve, static_cast<float>(done_) / static_cast<float>(heads.size())))
            return true;
        if (status) status = fail(ErrorCode::cancelled, "cancelled");
        return false;
    }

    std::vector<CompactHead> heads;
    SolvedOn on;
    Status status;

  private:
    static std::string name_of(const Job& job, const AttentionMap& map) {
        const int first = map.layers[job.layer].layer, last = map.layers[job.layer + job.layers - 1].layer;
        if (!job.device) return kvfold::format("layer {}, KV head {}", first, job.head);
        if (first == last) return kvfold::format("layer {}, a KV head", first);
        return kvfold::format("a KV head of layers {} to {}", first, last);
    }

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

Result<Solved> solve_on_processor(const RegionProblem& problem, const Study& study, const HeadSolver& solve,
                                  const Job& job) {
    Solved solved;
    size_t index = job.index;
    for (size_t i = job.layer; i < job.layer + job.layers; ++i) {
        const AttentionLayer& layer = problem.map.layers[i];
        const SolveRequest request = request_of(problem, layer);
        for (Index head = job.head; head < job.head + job.heads; ++head) {
            const HeadRows rows = rows_of(problem, study, i, head);
            KVFOLD_TRY(CompactHead compact,
                       solve({i, head, index++, rows.problem(layer), request, problem.kernels}));
            solved.heads.push_back(std::move(compact));
        }
        if (job.head == 0) ++solved.on.layers;
    }
    return solved;
}

// Of all heads of the job, in their order.
std::vector<HeadRows> rows_of_job(const RegionProblem& problem, const Study& study, const Job& job) {
    std::vector<HeadRows> rows(job.all_heads());
    parallel_for(rows.size(), problem.threads, [&](size_t i) {
        const auto heads = static_cast<size_t>(job.heads);
        rows[i] = rows_of(problem, study, job.layer + i / heads, static_cast<Index>(i % heads));
        return true;
    });
    return rows;
}

Result<Solved> solve_on_device(const RegionProblem& problem, const Study& study, const SolvePlan& plan,
                               const Job& job) {
    const std::vector<HeadRows> rows = rows_of_job(problem, study, job);
    std::vector<HeadProblem> heads;
    for (size_t i = 0; i < rows.size(); ++i)
        heads.push_back(rows[i].problem(problem.map.layers[job.layer + i / static_cast<size_t>(job.heads)]));
    const SolveRequest request = request_of(problem, problem.map.layers[job.layer]);
    KVFOLD_TRY(const device::PreparedHeads prepared,
               device::prepare_heads(heads, plan, request, problem.threads));
    KVFOLD_TRY(const device::Lease backend, device::Lease::of(job.device));
    KVFOLD_TRY(auto solved, device::solve_heads(*backend, prepared, plan, request));
    return Solved{std::move(solved), {job.layers, job.layers, (*backend).description(), {}}};
}

// The device of the layers first, and the processor where it cannot and was not asked for.
Result<Solved> solve_job(const RegionProblem& problem, const Study& study, const SolvePlan& plan,
                         const HeadSolver& by_head, const Job& job) {
    if (!job.device) return solve_on_processor(problem, study, by_head, job);
    Result<Solved> solved = without_throwing([&] { return solve_on_device(problem, study, plan, job); });
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
    const size_t heads = jobs.empty() ? 0 : jobs.back().index + jobs.back().all_heads();
    const bool all_on_devices = std::ranges::all_of(jobs, [](const Job& job) { return job.device; });
    const int threads = all_on_devices ? std::min(problem.threads, kJobsOfDevices) : problem.threads;
    Collector found(heads, problem.progress);
    parallel_for(jobs.size(), threads, [&](size_t i) {
        return found.add(jobs[i], without_throwing([&] { return solve(jobs[i]); }), problem.map);
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
