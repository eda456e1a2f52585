// Milliseconds of attention matching for one head, whole and by stage, on one core. In a build with several
// variants of the solver, stages that no table of kernels names are those of the plain one; $KVFOLD_KERNELS
// chooses the others.
//   bench_solve --benchmark_repetitions=5 --benchmark_format=json
//   bench_solve --size=2013/221/2112         cells, kept cells and queries; in place of the sizes below
// Before a size is timed its result is verified: the solver must beat plain selection on it.
#include "base/format.h"
#include "method/method.h"
#include "reference/synthetic_head.h"
#include "solve/absorb.h"
#include "solve/bias.h"
#include "solve/kernels.h"
#include "solve/omp.h"
#include "solve/refine.h"
#include "solve/select.h"
#include "solve/values.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

namespace kvfold {
namespace {

const Kernels* kernels = nullptr; // chosen before anything is measured

struct Size {
    Index cells, kept, queries;
    auto operator<=>(const Size&) const = default;
};
// What method refine solves for a head of SmolLM2: 2048 tokens at 8x and 4x, 6144 at 8x.
std::vector<Size> sizes = {{2013, 221, 2112}, {2012, 476, 2112}, {6108, 732, 4095}};

// A head with the input of every stage at hand.
struct Stages {
    reference::SyntheticHead head;
    FullAttention full;
    Matrix keys, values, shares, absorbed;
    Vector bias;
    CompactAttention compact;
    std::string failure; // empty when the result is as it must be
};

std::string verify(const HeadProblem& problem, Index kept) {
    const auto solved = kernels->solve_head(problem, {}, {.kept = kept});
    const auto selected = kernels->solve_head(problem, methods::select.solve, {.kept = kept});
    if (!solved) return solved.error().message;
    if (!selected) return selected.error().message;
    const auto pursued = kernels->solve_head(problem, methods::omp.solve, {.kept = kept});
    const auto refined = kernels->solve_head(problem, methods::refine.solve, {.kept = kept});
    if (!pursued) return pursued.error().message;
    if (!refined) return refined.error().message;
    if (pursued->output_error > solved->output_error) return "the pursuit does not beat the RMS score";
    if (refined->output_error > solved->output_error) return "refinement does not beat the solver";
    const bool better = solved->output_error < 0.9f * selected->output_error &&
                        solved->mass_error < 0.9f * selected->mass_error;
    return better ? "" : "the solver does not beat plain selection";
}

std::unique_ptr<Stages> make_stages(const Size& size) {
    auto stages = std::make_unique<Stages>();
    stages->head = reference::synthetic_head(
        {.cells = size.cells, .queries = size.queries, .key_width = 64, .value_width = 64});
    const HeadProblem problem = stages->head.problem();
    stages->failure = verify(problem, size.kept);
    if (!stages->failure.empty()) return stages;
    stages->full = kernels->attend_all(problem);
    const std::vector<uint32_t> cells = select_cells(stages->full.score, size.kept, {});
    stages->keys = stages->head.keys(cells, Eigen::all);
    stages->values = stages->head.values(cells, Eigen::all);
    stages->shares = mass_shares(problem, stages->keys, stages->full);
    stages->bias = fit_bias(stages->shares, stages->full.roots).value();
    stages->absorbed = stages->keys;
    (void)absorb_bias(problem, stages->shares, stages->full, stages->bias, stages->absorbed);
    stages->compact = kernels->attend_compact(problem, stages->absorbed);
    return stages;
}

// One set of inputs a size, made when first needed.
Stages& stages_of(const Size& size) {
    static std::map<Size, std::unique_ptr<Stages>> all;
    auto& stages = all[size];
    if (!stages) stages = make_stages(size);
    return *stages;
}

void time_stage(const char* name, const std::function<void(Stages&, Index kept)>& stage) {
    for (const Size& size : sizes) {
        const std::string full_name =
            kvfold::format("{}/T:{}/t:{}/n:{}", name, size.cells, size.kept, size.queries);
        const auto run = [size, stage](benchmark::State& state) {
            Stages& stages = stages_of(size);
            if (!stages.failure.empty()) return state.SkipWithError(stages.failure.c_str());
            for ([[maybe_unused]] auto _ : state)
                stage(stages, size.kept);
        };
        benchmark::RegisterBenchmark(full_name.c_str(), run)->Unit(benchmark::kMillisecond);
    }
}

void register_all() {
    time_stage("solve_head", [](Stages& s, Index kept) {
        benchmark::DoNotOptimize(kernels->solve_head(s.head.problem(), {}, {.kept = kept}));
    });
    time_stage("solve_head_omp", [](Stages& s, Index kept) {
        benchmark::DoNotOptimize(kernels->solve_head(s.head.problem(), methods::omp.solve, {.kept = kept}));
    });
    time_stage("solve_head_refine", [](Stages& s, Index kept) {
        benchmark::DoNotOptimize(
            kernels->solve_head(s.head.problem(), methods::refine.solve, {.kept = kept}));
    });
    time_stage("select_only", [](Stages& s, Index kept) {
        benchmark::DoNotOptimize(
            kernels->solve_head(s.head.problem(), methods::select.solve, {.kept = kept}));
    });
    time_stage("attend_all",
               [](Stages& s, Index) { benchmark::DoNotOptimize(kernels->attend_all(s.head.problem())); });
    time_stage("select_cells",
               [](Stages& s, Index kept) { benchmark::DoNotOptimize(select_cells(s.full.score, kept, {})); });
    time_stage("pursue_cells", [](Stages& s, Index kept) {
        benchmark::DoNotOptimize(pursue_cells(s.head.problem(), s.full, kept, {}));
    });
    time_stage("mass_shares", [](Stages& s, Index) {
        benchmark::DoNotOptimize(mass_shares(s.head.problem(), s.keys, s.full));
    });
    time_stage("fit_bias",
               [](Stages& s, Index) { benchmark::DoNotOptimize(fit_bias(s.shares, s.full.roots)); });
    time_stage("absorb_bias", [](Stages& s, Index) {
        Matrix keys = s.keys;
        benchmark::DoNotOptimize(absorb_bias(s.head.problem(), s.shares, s.full, s.bias, keys));
    });
    time_stage("refine_keys", [](Stages& s, Index) {
        Matrix keys = s.absorbed;
        const int steps = methods::refine.solve.refine_steps;
        benchmark::DoNotOptimize(refine_keys(s.head.problem(), s.full, s.values, steps, keys));
    });
    time_stage("attend_compact", [](Stages& s, Index) {
        benchmark::DoNotOptimize(kernels->attend_compact(s.head.problem(), s.absorbed));
    });
    time_stage("fit_values", [](Stages& s, Index) {
        Matrix values = s.values;
        benchmark::DoNotOptimize(fit_values(s.compact.probabilities, s.full.output, values));
    });
}

// Takes --size out of the arguments. False when it is no size.
bool read_size(int& argc, char** argv) {
    constexpr std::string_view kOption = "--size=";
    for (int i = 1; i < argc; ++i) {
        if (!std::string_view(argv[i]).starts_with(kOption)) continue;
        long cells = 0, kept = 0, queries = 0;
        const int read = std::sscanf(argv[i] + kOption.size(), "%ld/%ld/%ld", &cells, &kept, &queries);
        if (read != 3 || kept < 2 || cells <= kept || queries < 1) return false;
        sizes = {{cells, kept, queries}};
        std::copy(argv + i + 1, argv + argc, argv + i);
        --argc;
        return true;
    }
    return true;
}

} // namespace
} // namespace kvfold

int main(int argc, char** argv) {
    if (!kvfold::read_size(argc, argv)) return std::fprintf(stderr, "--size=CELLS/KEPT/QUERIES\n"), 1;
    const auto chosen = kvfold::chosen_kernels();
    if (!chosen) return std::fprintf(stderr, "%s\n", chosen.error().message.c_str()), 1;
    kvfold::kernels = *chosen;
    benchmark::AddCustomContext("kernels", std::string(kvfold::kernels->name));
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    kvfold::register_all();
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
}
