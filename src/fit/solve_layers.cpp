#include "fit/solve_layers.h"

#include "base/no_throw.h"
#include "base/parallel.h"
#include "device/solve_heads.h"
#include "fit/jobs.h"

#include <algorithm>
#include <iterator>
#include <mutex>
#include <numeric>
#include <utility>

namespace kvfold {

namespace {

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
        if (goes_on(progress_, Stage::solve, share())) return true;
        if (status) status = fail(ErrorCode::cancelled, "cancelled");
        return false;
    }

    // Asked while a job is solved.
    bool wants_more() {
        const std::lock_guard lock(mutex_);
        return status && goes_on(progress_, Stage::solve, share());
    }

    std::vector<CompactHead> heads;
    SolvedOn on;
    Status status;

  private:
    float share() const { return static_cast<float>(done_) / static_cast<float>(heads.size()); }

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

// What the layer's cache holds of a head's region, and what it is asked.
struct HeadRows {
    Matrix keys, values, queries;
    std::vector<float> importance;

    HeadProblem problem(const AttentionLayer& layer) const {
        return {keys, values, queries, layer.scale, layer.softcap, importance};
    }
};

// The heads of a job for a device, in their order, and what the processor finds out about them.
struct PreparedJob {
    std::vector<HeadRows> rows;
    std::vector<HeadProblem> heads; // refer to the rows
    SolveRequest request;
    device::PreparedHeads prepared; // refers to the heads
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

// All heads of one region. On the processor each is solved by `by_head`; on devices by the plan.
class RegionSolver {
  public:
    // plan: null: there are no jobs for devices. What is given outlives the solver.
    RegionSolver(const RegionProblem& problem, const Study& study, const HeadSolver& by_head,
                 const SolvePlan* plan)
        : problem_(problem), study_(study), by_head_(by_head), plan_(plan),
          found_(count_heads(problem.map), problem.progress) {}

    Result<Solution> solve(const std::vector<Job>& jobs) {
        const std::vector<Lane> lanes = lanes_of(jobs);
        const int lane_threads =
            std::max(1, problem_.threads / static_cast<int>(std::max<size_t>(1, lanes.size())));
        parallel_for(lanes.size(), problem_.threads, [&](size_t i) {
            const Job& first = lanes[i].front();
            if (first.device) return solve_lane(lanes[i], lane_threads);
            return add(first, without_throwing([&] { return on_processor(first, /*threads=*/1); }));
        });
        KVFOLD_CHECK(std::move(found_.status));
        return joined();
    }

  private:
    bool add(const Job& job, Result<Solved> solved) {
        return found_.add(job, std::move(solved), problem_.map);
    }

    HeadRows rows_of(size_t index, Index head) const {
        const AttentionLayer& layer = problem_.map.layers[index];
        const KvSection& section = problem_.section();
        const Index d = layer.key_width, dv = layer.value_width;
        return {head_to_float(section.keys[layer.cache], problem_.regions.region, head * d, d),
                head_to_float(section.values[layer.cache], problem_.regions.region, head * dv, dv),
                queries_of_head(study_, problem_.map, index, head, problem_.study.max_queries),
                importance_of_head(study_, problem_.map, index, problem_.study.max_queries)};
    }

    SolveRequest request_of(size_t index) const {
        const CacheTensor& keys = problem_.section().keys[problem_.map.layers[index].cache];
        return {problem_.slots, {}, [&keys](MutableMatrixView rows) { round_rows(rows, keys.type); }};
    }

    Result<Solved> on_processor(const Job& job, int threads) const {
        Solved solved{std::vector<CompactHead>(job.all_heads()), {}};
        KVFOLD_CHECK(try_parallel_for(job.all_heads(), threads, [&](size_t i) -> Status {
            const size_t layer = job.layer_of(i);
            const HeadRows rows = rows_of(layer, job.head_of(i));
            KVFOLD_TRY(solved.heads[i], by_head_({layer, job.head_of(i), job.index + i,
                                                  rows.problem(problem_.map.layers[layer]), request_of(layer),
                                                  problem_.kernels}));
            return {};
        }));
        if (job.head == 0) solved.on.layers = job.layers;
        return solved;
    }

    Result<PreparedJob> prepare(const Job& job, int threads) const {
        PreparedJob ready{std::vector<HeadRows>(job.all_heads()), {}, {}, {}};
        parallel_for(job.all_heads(), threads, [&](size_t i) {
            ready.rows[i] = rows_of(job.layer_of(i), job.head_of(i));
            return true;
        });
        for (size_t i = 0; i < ready.rows.size(); ++i)
            ready.heads.push_back(ready.rows[i].problem(problem_.map.layers[job.layer_of(i)]));
        ready.request = request_of(job.layer);
        KVFOLD_TRY(ready.prepared, device::prepare_heads(ready.heads, *plan_, ready.request, threads));
        return ready;
    }

    Result<Solved> on_device(const PreparedJob& ready, const Job& job, int threads) {
        KVFOLD_TRY(const device::Lease backend, device::Lease::of(job.device));
        (*backend).use_threads(threads);
        (*backend).ask([&] { return found_.wants_more(); });
        KVFOLD_TRY(auto solved, device::solve_heads(*backend, ready.prepared, *plan_, ready.request));
        return Solved{std::move(solved), {job.layers, job.layers, (*backend).description(), {}}};
    }

    // The device first, and the processor where it cannot and was not asked for.
    Result<Solved> solve_prepared(const PreparedJob& ready, const Job& job, int threads) {
        Result<Solved> solved = without_throwing([&] { return on_device(ready, job, threads); });
        const bool is_final = solved || solved.error().code == ErrorCode::cancelled;
        if (is_final || problem_.solve_on == SolveOn::device) return solved;
        const std::string why_not = solved.error().message;
        KVFOLD_TRY(solved, on_processor(job, threads));
        solved->on.why_not = why_not;
        return solved;
    }

    // While a device solves one job, the processor prepares the next.
    bool solve_lane(const Lane& lane, int threads) {
        const auto prepared = [&](size_t i) {
            return without_throwing([&] { return prepare(lane[i], threads); });
        };
        Result<PreparedJob> next = prepared(0);
        for (size_t i = 0; i < lane.size(); ++i) {
            const Result<PreparedJob> ready = std::move(next);
            Result<Solved> solved;
            parallel_for(i + 1 < lane.size() ? 2 : 1, 2, [&](size_t step) {
                if (step == 1)
                    next = prepared(i + 1);
                else if (ready)
                    solved = without_throwing([&] { return solve_prepared(*ready, lane[i], threads); });
                else
                    solved = tl::unexpected(ready.error());
                return true;
            });
            if (!add(lane[i], std::move(solved))) return false;
        }
        return true;
    }

    Result<Solution> joined() {
        const std::vector<AttentionLayer>& layers = problem_.map.layers;
        const KvSection& section = problem_.section();
        Solution solution{problem_.slots,
                          std::vector<CacheTensor>(layers.size()),
                          std::vector<CacheTensor>(layers.size()),
                          {},
                          std::move(found_.on)};
        std::vector<size_t> first; // head of each layer
        size_t heads = 0;
        for (const AttentionLayer& layer : layers) {
            first.push_back(std::exchange(heads, heads + static_cast<size_t>(layer.kv_heads)));
            for (size_t i = first.back(); i < heads; ++i) {
                CompactHead& head = found_.heads[i];
                solution.heads.push_back({layer.layer, static_cast<int>(i - first.back()),
                                          head.absorb_residual, head.output_error, head.mass_error,
                                          head.neutral, std::move(head.kept)});
            }
        }
        KVFOLD_CHECK(try_parallel_for(layers.size(), problem_.threads, [&](size_t i) -> Status {
            const std::span of(&found_.heads[first[i]], static_cast<size_t>(layers[i].kv_heads));
            const size_t cache = layers[i].cache;
            KVFOLD_TRY(solution.keys[i], join_heads(of, section.keys[cache], &CompactHead::keys));
            KVFOLD_TRY(solution.values[i], join_heads(of, section.values[cache], &CompactHead::values));
            return {};
        }));
        return solution;
    }

    const RegionProblem& problem_;
    const Study& study_;
    const HeadSolver& by_head_;
    const SolvePlan* plan_;
    Collector found_;
};

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
    const HeadSolver by_head = [&plan](const HeadTask& task) {
        return task.kernels.solve_head(task.problem, plan, task.request);
    };
    auto solution = RegionSolver(problem, study, by_head, &plan)
                        .solve(list_jobs(problem.map, problem.solve_on, problem.threads));
    device::release_memory();
    return solution;
}

Result<Solution> solve_layers(const RegionProblem& problem, const Study& study, const HeadSolver& by_head) {
    return RegionSolver(problem, study, by_head, nullptr)
        .solve(list_jobs(problem.map, SolveOn::processor, problem.threads));
}

} // namespace kvfold
