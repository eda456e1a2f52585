// Means over runs and their spread.
#include "measure/suite.h"

#include <gtest/gtest.h>

#include <cmath>

namespace kvfold {
namespace {

SuiteRow run(const char* method, double kl, double solve_s, uint64_t seed) {
    EvalRow row{.task = "continuation", .cache = "f16", .method = method, .asked_ratio = 8, .ratio = 8};
    row.score = {.tokens = 256, .answers = 1, .kl = kl, .nll = 2 * kl};
    row.report.solve_s = solve_s;
    row.report.cells_after = 256;
    row.peak_extra_bytes = seed * 100;
    row.by_depth = {{0.25, {.tokens = 1, .answers = 1, .exact = seed == 1 ? 1.0 : 0.0}}};
    return {"text", 0, seed, row};
}

TEST(Summary, AveragesTheRunsOfEachKindAndTellsTheirSpread) {
    const std::vector<SuiteRow> runs = {run("refine", 0.1, 2, 1), run("keep_last", 0.5, 0, 1),
                                        run("refine", 0.4, 4, 2)};
    const std::vector<SummaryRow> summary = summarize(runs);
    ASSERT_EQ(summary.size(), 2u);
    const SummaryRow& refine = summary[0];
    EXPECT_EQ(refine.mean.method, "refine");
    EXPECT_EQ(refine.runs, 2u);
    EXPECT_NEAR(refine.mean.score.kl, 0.25, 1e-12);
    EXPECT_NEAR(refine.mean.score.nll, 0.5, 1e-12);
    EXPECT_NEAR(refine.kl_geomean, 0.2, 1e-12);
    EXPECT_EQ(refine.kl_min, 0.1);
    EXPECT_EQ(refine.kl_max, 0.4);
    EXPECT_NEAR(refine.mean.report.solve_s, 3, 1e-12);
    EXPECT_EQ(refine.mean.report.cells_after, 256u);
    EXPECT_EQ(refine.mean.peak_extra_bytes, 150u);
    ASSERT_EQ(refine.mean.by_depth.size(), 1u);
    EXPECT_NEAR(refine.mean.by_depth[0].score.exact, 0.5, 1e-12);
    EXPECT_EQ(summary[1].runs, 1u);
    EXPECT_EQ(summary[1].kl_min, summary[1].kl_max);
}

TEST(Summary, KeepsRatiosCachesAndTasksApart) {
    std::vector<SuiteRow> runs(4, run("refine", 0.1, 1, 1));
    runs[1].row.asked_ratio = 4;
    runs[2].row.cache = "q8_0";
    runs[3].row.task = "copy";
    EXPECT_EQ(summarize(runs).size(), 4u);
}

TEST(Summary, RunsOfOneRatioBelongTogetherWhateverCellsTheyHave) {
    std::vector<SuiteRow> runs(2, run("refine +8", 0.1, 1, 1));
    runs[1].row.ratio = 7.5; // 133 cells and 8, or 134 and 8
    const std::vector<SummaryRow> summary = summarize(runs);
    ASSERT_EQ(summary.size(), 1u);
    EXPECT_EQ(summary[0].runs, 2u);
    EXPECT_NEAR(summary[0].mean.ratio, 7.75, 1e-12);
}

TEST(Summary, OfNoDivergenceIsFinite) {
    const std::vector<SuiteRow> runs = {run("refine", 0, 1, 1)};
    EXPECT_TRUE(std::isfinite(summarize(runs)[0].kl_geomean));
}

} // namespace
} // namespace kvfold
