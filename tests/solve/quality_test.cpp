// Is the solver worth its work? Everything here is judged by the double twin, on queries it was fitted to and
// on others of the same kind.
#include "reference/naive_head.h"
#include "reference/synthetic_head.h"
#include "solve/solve_head.h"

#include <gtest/gtest.h>

#include <numeric>

namespace kvfold {
namespace {

using reference::naive_quality;
using reference::Quality;
using reference::SyntheticHead;
using reference::SyntheticSizes;

constexpr SolvePlan kSelectOnly{.fit_bias = false, .fit_values = false};

// Half of the queries to fit, half to judge.
struct Trial {
    SyntheticHead head;
    Matrix fitted, held_out;
    float softcap = 0;
    HeadProblem training() const { return {head.keys, head.values, fitted, head.scale, softcap}; }
    Quality judge(const Matrix& keys, const Matrix& values) const {
        const HeadProblem problem{head.keys, head.values, held_out, head.scale, softcap};
        return naive_quality(problem, keys.cast<double>(), values.cast<double>());
    }
};

Trial make_trial(uint32_t seed, float softcap = 0) {
    const SyntheticHead head = reference::synthetic_head({.queries = 768, .seed = seed});
    return {head, head.queries.topRows(384), head.queries.bottomRows(384), softcap};
}

Quality judge_cells(const Trial& trial, const std::vector<uint32_t>& cells) {
    return trial.judge(trial.head.keys(cells, Eigen::all), trial.head.values(cells, Eigen::all));
}

constexpr Index kKept = 32; // 8x

void expect_order(const Trial& trial) {
    const CompactHead solved = solve_head(trial.training(), {}, {.kept = kKept}).value();
    const CompactHead selected = solve_head(trial.training(), kSelectOnly, {.kept = kKept}).value();
    std::vector<uint32_t> newest(kKept), random(256);
    std::iota(newest.begin(), newest.end(), 256u - kKept);
    newest[0] = 0; // keeps the sink too, as streaming caches do
    std::iota(random.begin(), random.end(), 0u);
    std::shuffle(random.begin() + 1, random.end(), std::mt19937(trial.head.keys.rows()));
    random.resize(kKept);

    const Quality solver = trial.judge(solved.keys, solved.values);
    const Quality select = trial.judge(selected.keys, selected.values);
    EXPECT_LT(solver.output_error, 0.9 * select.output_error);
    EXPECT_LT(solver.mass_error, 0.7 * select.mass_error);
    EXPECT_LT(select.output_error, judge_cells(trial, newest).output_error);
    EXPECT_LT(select.output_error, judge_cells(trial, random).output_error);
}

TEST(Quality, SolverBeatsSelectBeatsNewestAndRandomOnHeldOutQueries) {
    for (const uint32_t seed : {1u, 2u, 3u})
        expect_order(make_trial(seed));
}

TEST(Quality, SolverBeatsSelectUnderASoftcap) { expect_order(make_trial(1, /*softcap=*/30)); }

// The check that the solver passes, as a value, so that broken twins can fail it.
bool is_worth_it(const Trial& trial, const Matrix& keys, const Matrix& values) {
    const CompactHead selected = solve_head(trial.training(), kSelectOnly, {.kept = kKept}).value();
    const Quality select = trial.judge(selected.keys, selected.values);
    const Quality solver = trial.judge(keys, values);
    return solver.output_error < 0.9 * select.output_error && solver.mass_error < 0.7 * select.mass_error;
}

TEST(Quality, ABiasOfTheWrongSignIsNoticed) {
    const Trial trial = make_trial(1);
    const CompactHead solved = solve_head(trial.training(), {}, {.kept = kKept}).value();
    EXPECT_TRUE(is_worth_it(trial, solved.keys, solved.values));
    const Matrix plain = trial.head.keys(solved.kept, Eigen::all);
    EXPECT_FALSE(is_worth_it(trial, 2 * plain - solved.keys, solved.values));
}

TEST(Quality, ValuesOfOtherCellsAreNoticed) {
    const Trial trial = make_trial(1);
    const CompactHead solved = solve_head(trial.training(), {}, {.kept = kKept}).value();
    EXPECT_FALSE(is_worth_it(trial, solved.keys, solved.values.colwise().reverse()));
}

// 48 queries for 128 cells. The gain differs a lot from head to head (1 % to 60 %), so the mean is judged.
TEST(Quality, AnchoringToTheKeptValuesHelpsWhenQueriesAreFew) {
    double anchored = 0, unanchored = 0;
    for (const uint32_t seed : {1u, 2u, 3u, 4u}) {
        const Trial trial = make_trial(seed);
        const Matrix few = trial.fitted.topRows(48);
        const HeadProblem problem{trial.head.keys, trial.head.values, few, trial.head.scale};
        const CompactHead solved = solve_head(problem, {}, {.kept = 128}).value();
        // The broken twin: the same fit pulled towards zero.
        const reference::Table keys = trial.head.keys.cast<double>(),
                               values = trial.head.values.cast<double>();
        const auto x = reference::naive_attention(problem, solved.keys.cast<double>(), {}).probabilities;
        const auto y = reference::naive_attention(problem, keys, values).output;
        anchored += trial.judge(solved.keys, solved.values).output_error;
        unanchored += trial.judge(solved.keys, reference::naive_ridge(x, y, 1e-3).cast<float>()).output_error;
    }
    EXPECT_LT(anchored, 0.95 * unanchored);
}

TEST(Quality, ErrorsFallAsTheBudgetGrows) {
    const Trial trial = make_trial(1);
    CompactHead before = solve_head(trial.training(), {}, {.kept = 8}).value();
    for (const Index kept : {16, 32, 64, 128, 256}) {
        const CompactHead after = solve_head(trial.training(), {}, {.kept = kept}).value();
        EXPECT_LT(after.output_error, before.output_error) << kept;
        EXPECT_LT(after.mass_error, before.mass_error) << kept;
        before = after;
    }
}

} // namespace
} // namespace kvfold
