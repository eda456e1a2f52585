// What the report of several chunks says.
#include "engine/fold_chunks.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

// Three chunks of 10, 20 and 10 cells.
struct Three {
    std::vector<Chunk> chunks{{.begin = 0, .end = 10, .cells = {}, .budget = {}},
                              {.begin = 10, .end = 30, .cells = {}, .budget = {}},
                              {.begin = 30, .end = 40, .cells = {}, .budget = {}}};
    Regions regions;
    Three() {
        regions.head.resize(4);
        regions.region.resize(40);
        regions.tail.resize(6);
    }
};

HeadReport head_of(float figure, std::vector<uint32_t> kept) {
    return {.layer = 2,
            .head = 1,
            .absorb_residual = figure,
            .output_error = 2 * figure,
            .mass_error = 3 * figure,
            .neutral = 1,
            .kept = std::move(kept)};
}

// What the fold of chunk i reports.
CompactReport step(size_t i) {
    const auto number = static_cast<double>(i + 1);
    CompactReport report;
    report.bytes_before = 1000 - 100 * i;
    report.bytes_after = report.bytes_before - 60;
    report.regions.folded = 2;
    report.study_tokens = 100;
    report.snapshot_s = report.study_s = report.solve_s = report.swap_s = number;
    report.heads = {head_of(static_cast<float>(number), {0, static_cast<uint32_t>(i) + 1})};
    report.figures = {{"heads refitted", number}};
    if (i == 1) report.figures.push_back({"of one chunk alone", 7});
    return report;
}

TEST(FoldChunks, AddsUpCostsAndFiguresAndTakesTheMeansOfHeadsOverTheCells) {
    const Three three;
    size_t next = 0;
    const auto report = fold_chunks(three.chunks, three.regions, {}, [&](const Chunk&, CompactRequest&) {
        return Result<CompactReport>(step(next++));
    });
    ASSERT_TRUE(report);
    EXPECT_EQ(next, 3u);
    EXPECT_EQ(report->study_tokens, 300);
    for (const auto seconds : {&CompactReport::snapshot_s, &CompactReport::study_s, &CompactReport::solve_s,
                               &CompactReport::swap_s})
        EXPECT_DOUBLE_EQ((*report).*seconds, 6);
    EXPECT_EQ(report->regions.folded, 6u);
    EXPECT_EQ(report->cells_before, 50u);
    EXPECT_EQ(report->cells_after, 4u + 6u + 6u);
    EXPECT_EQ(report->bytes_after, 740u); // the newest step's
    EXPECT_EQ(report->bytes_before, 740u + 3 * 60u);
    ASSERT_EQ(report->figures.size(), 2u);
    EXPECT_EQ(report->figures[0].name, "heads refitted");
    EXPECT_DOUBLE_EQ(report->figures[0].value, 6);
    EXPECT_DOUBLE_EQ(report->figures[1].value, 7);

    ASSERT_EQ(report->heads.size(), 1u);
    const HeadReport& head = report->heads[0];
    EXPECT_EQ(head.layer, 2);
    EXPECT_EQ(head.head, 1);
    const float mean = (1 * 10 + 2 * 20 + 3 * 10) / 40.0f; // by cells, not by chunks
    EXPECT_FLOAT_EQ(head.absorb_residual, mean);
    EXPECT_FLOAT_EQ(head.output_error, 2 * mean);
    EXPECT_FLOAT_EQ(head.mass_error, 3 * mean);
    EXPECT_EQ(head.neutral, 3u);
    EXPECT_EQ(head.kept, (std::vector<uint32_t>{0, 1, 10, 12, 30, 33}));
}

TEST(FoldChunks, ProgressGoesOnFromChunkToChunkAndTheFirstErrorEndsIt) {
    const Three three;
    std::vector<float> done;
    CompactRequest request;
    request.progress = [&](Stage, float share) {
        done.push_back(share);
        return true;
    };
    size_t folds = 0;
    const auto report = fold_chunks(three.chunks, three.regions, request,
                                    [&](const Chunk&, CompactRequest& step_request) -> Result<CompactReport> {
                                        step_request.progress(Stage::solve, 0.5f);
                                        if (++folds == 2) return fail(ErrorCode::numeric, "no number");
                                        return step(0);
                                    });
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code, ErrorCode::numeric);
    EXPECT_EQ(folds, 2u);
    ASSERT_EQ(done.size(), 2u);
    EXPECT_FLOAT_EQ(done[0], 0.5f / 3);
    EXPECT_FLOAT_EQ(done[1], 1.5f / 3);
}

} // namespace
} // namespace kvfold
