#include "engine/policy.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

constexpr size_t kCells = 2048;

// A whole sequence, some of whose cells are folded.
Foldable part_of(size_t cells, size_t folded = 0) { return {.cells = cells, .folded = folded}; }

TEST(FoldPlan, TheFirstFoldTakesAllButHeadAndTail) {
    const auto plan = plan_fold(part_of(1536), Policy{}, kCells, false);
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->budget.keep_first, 4);
    EXPECT_EQ(plan->budget.keep_last, 256);
    EXPECT_EQ(plan->cells_before, 1536u);
    EXPECT_EQ(plan->cells_after, 4u + 256u + (1536u - 260u) / 8);
    EXPECT_EQ(std::llround(1536 / plan->budget.ratio), static_cast<long long>(plan->cells_after));
}

TEST(FoldPlan, TheNewestAnswerStaysWhereEnoughIsGainedWithoutIt) {
    Foldable part = part_of(1536);
    part.changing = 600;
    const auto plan = plan_fold(part, Policy{}, kCells, false);
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->budget.keep_last, 602);
    EXPECT_EQ(plan_fold(part, Policy{}, kCells, /*urgent=*/true)->budget.keep_last, 602);
    part.changing = 1300; // then 207 cells would be gained
    EXPECT_EQ(plan_fold(part, Policy{}, kCells, false)->budget.keep_last, 256);
    part.changing = 100; // less than stays anyway
    EXPECT_EQ(plan_fold(part, Policy{}, kCells, false)->budget.keep_last, 256);
}

TEST(FoldPlan, WhatIsFoldedAlreadyIsNotSpared) {
    Foldable part = part_of(1536, 1000);
    const auto plan = plan_fold(part, Policy{}, kCells, false);
    part.changing = 700; // of which 164 are in the fold
    EXPECT_EQ(plan_fold(part, Policy{}, kCells, false)->gain(), plan->gain());
}

TEST(FoldPlan, NoFoldIsFoldedAgainForTheSakeOfAnAnswer) {
    for (const auto& [folded, answer] : {std::pair{400, 800}, {500, 700}, {600, 700}, {700, 500}}) {
        Foldable part = part_of(1537, static_cast<size_t>(folded));
        part.changing = static_cast<size_t>(answer);
        const auto plan = plan_fold(part, Policy{}, kCells, false);
        ASSERT_TRUE(plan);
        EXPECT_GE(plan->budget.keep_first, folded) << answer;
    }
}

TEST(FoldPlan, LaterFoldsLeaveWhatIsFoldedAsItIs) {
    const auto plan = plan_fold(part_of(1699, 163), Policy{}, kCells, false);
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->budget.keep_first, 4 + 159);
}

TEST(FoldPlan, WhereOriginalsAreKeptUpToSoManyCellsAreFoldedTogether) {
    Foldable part = part_of(1699, 163);
    part.originals = 600; // 1280 are new
    const auto anew = plan_fold(part, Policy{}, kCells, false),
               apart = plan_fold(part_of(1699, 163), Policy{}, kCells, false);
    ASSERT_TRUE(anew && apart);
    ASSERT_TRUE(anew->together);
    EXPECT_EQ(anew->together->keep_first, 4);
    EXPECT_EQ(anew->cells_after, apart->cells_after);
    EXPECT_EQ(anew->budget.keep_first, 163); // where the originals cannot be folded: nothing is lost
    EXPECT_FALSE(apart->together);
    part.originals = 900;
    EXPECT_FALSE(plan_fold(part, Policy{}, kCells, false)->together);
}

TEST(FoldPlan, AFoldThatFillsTheRoomIsFoldedAgain) {
    const auto plan = plan_fold(part_of(2504, 1004), Policy{}, kCells, false);
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->budget.keep_first, 4);
    EXPECT_LT(plan->cells_after, 1000u);
}

TEST(FoldPlan, CellsThatAreNeverFoldedDoNotFillTheRoom) {
    Policy policy;
    policy.keep_first = 900;
    const auto plan = plan_fold(part_of(1540, 960), policy, kCells, false);
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->budget.keep_first, 900 + 60);
}

TEST(FoldPlan, ShortSequencesAreLeftAlone) {
    EXPECT_FALSE(plan_fold(part_of(200), Policy{}, kCells, false));
    EXPECT_FALSE(plan_fold(part_of(320), Policy{}, kCells, false)); // 60 cells would become 7: not worth it
    EXPECT_TRUE(plan_fold(part_of(340), Policy{}, kCells, false));
}

TEST(FoldPlan, WhenCellsRunOutShorterOnesAreFoldedToo) {
    EXPECT_FALSE(plan_fold(part_of(200), Policy{}, kCells, /*urgent=*/false));
    EXPECT_TRUE(plan_fold(part_of(200), Policy{}, kCells, /*urgent=*/true));
}

TEST(FoldPlan, WhenNothingIsNewAndCellsRunOutOldFoldsAreFoldedAgain) {
    const Foldable part = part_of(174, 154); // 20 of them new
    EXPECT_FALSE(plan_fold(part, Policy{}, 512, /*urgent=*/false));
    const auto plan = plan_fold(part, Policy{}, 512, /*urgent=*/true);
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->budget.keep_first, 4);
    EXPECT_GE(plan->gain(), 60u);
}

TEST(FoldPlan, EveryPlanFitsTheRegions) {
    for (const size_t cells : {256u, 512u, 2048u, 8192u}) {
        for (llama_pos end = 20; end <= static_cast<llama_pos>(cells); end += 13) {
            for (const bool urgent : {false, true}) {
                const auto plan = plan_fold(part_of(static_cast<size_t>(end)), Policy{}, cells, urgent);
                if (!plan) continue;
                KvSection section;
                section.cells.resize(static_cast<size_t>(end));
                for (llama_pos pos = 0; pos < end; ++pos)
                    section.cells[static_cast<size_t>(pos)].pos = pos;
                const auto regions = plan_regions(section, plan->budget, Keep::fit);
                ASSERT_TRUE(regions) << cells << " cells, " << end << ": " << regions.error().message;
                EXPECT_EQ(regions->cells_after(), plan->cells_after) << cells << " cells, " << end;
            }
        }
    }
}

TEST(FoldPlan, APartAmidASequenceIsFoldedBetweenWhatStaysAroundIt) {
    const Foldable part{
        .seq_id = 1, .untouched = 300, .cells = 800, .folded = 50, .behind = 100, .is_shared = true};
    const auto plan = plan_fold(part, Policy{}, kCells, false);
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->budget.untouched, 300);
    EXPECT_EQ(plan->budget.keep_first, 300 + 50);
    EXPECT_EQ(plan->budget.keep_last, 256); // 156 of the part and what is behind it
    KvSection section;
    for (int32_t pos = 0; pos < 1200; ++pos)
        section.cells.push_back({.pos = pos});
    const auto regions = plan_regions(section, plan->budget, Keep::fit);
    ASSERT_TRUE(regions);
    EXPECT_EQ(regions->untouched, 300u);
    EXPECT_EQ(regions->cells_after(), 300 + plan->cells_after + 100);
}

TEST(WholeBudget, LeavesRoomForWhatIsFolded) {
    for (const double ratio : {1.5, 4.0, 8.0, 32.0}) {
        const Budget budget = whole_budget(part_of(1000), Policy{}, ratio);
        KvSection section;
        section.cells.resize(1000);
        const auto regions = plan_regions(section, budget, Keep::fit);
        ASSERT_TRUE(regions) << ratio << ": " << regions.error().message;
        EXPECT_GT(regions->folded, 0u);
    }
}

} // namespace
} // namespace kvfold
