// Which cache keeps most: interpolation between what was measured, and the choice.
#include "measure/advice.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace kvfold {
namespace {

const std::vector<CacheLoss> kLosses = {
    {GGML_TYPE_F16, 1, 0},     {GGML_TYPE_F16, 4, 0.04},  {GGML_TYPE_F16, 16, 0.12},
    {GGML_TYPE_Q8_0, 1, 0.02}, {GGML_TYPE_Q8_0, 4, 0.05},
};

size_t cell_bytes(ggml_type type) { return type == GGML_TYPE_F16 ? 100 : 50; }

TEST(LossOf, IsWhatWasMeasuredAndLiesBetween) {
    EXPECT_DOUBLE_EQ(*loss_of(kLosses, GGML_TYPE_F16, 1), 0);
    EXPECT_DOUBLE_EQ(*loss_of(kLosses, GGML_TYPE_F16, 4), 0.04);
    EXPECT_DOUBLE_EQ(*loss_of(kLosses, GGML_TYPE_F16, 8), 0.08); // half way, in octaves
    EXPECT_DOUBLE_EQ(*loss_of(kLosses, GGML_TYPE_Q8_0, 2), 0.035);
}

TEST(LossOf, SaysNothingBeyondIt) {
    EXPECT_FALSE(loss_of(kLosses, GGML_TYPE_F16, 16.1));
    EXPECT_FALSE(loss_of(kLosses, GGML_TYPE_F16, 0.9));
    EXPECT_FALSE(loss_of(kLosses, GGML_TYPE_Q4_0, 1));
}

TEST(Advise, TakesAsItIsWhatFits) {
    const auto advice = advise(kLosses, cell_bytes, 1000, 100'000);
    ASSERT_EQ(advice.size(), 2u);
    EXPECT_EQ(advice[0].type, GGML_TYPE_F16);
    EXPECT_EQ(advice[0].ratio, 1);
    EXPECT_EQ(advice[0].bytes, 100'000u);
    EXPECT_EQ(advice[1].bytes, 50'000u); // no more than it takes
}

TEST(Advise, PutsFirstWhatLosesLeast) {
    const auto advice = advise(kLosses, cell_bytes, 1000, 12'500); // f16 8x: 0.08, q8_0 4x: 0.05
    EXPECT_EQ(advice[0].type, GGML_TYPE_Q8_0);
    EXPECT_EQ(advice[0].ratio, 4);
    EXPECT_EQ(advice[0].bytes, 12'500u);
    EXPECT_EQ(advice[1].ratio, 8);
    // f16 at 1.1x would have 0.003, but serve takes whole ratios alone: 2x has 0.02, and q8_0 at 1x has less.
    const auto roomy = advise({{{GGML_TYPE_F16, 1, 0}, {GGML_TYPE_F16, 4, 0.04}, {GGML_TYPE_Q8_0, 1, 0.01}}},
                              cell_bytes, 1000, 90'000);
    EXPECT_EQ(roomy[0].type, GGML_TYPE_Q8_0);
    EXPECT_EQ(roomy[1].ratio, 2);
    EXPECT_EQ(roomy[1].bytes, 50'000u);
}

TEST(Advise, LeavesOutWhatTheModelCannotHave) {
    const auto no_blocks = [](ggml_type type) { return type == GGML_TYPE_F16 ? 100 : 0; };
    const auto advice = advise(kLosses, no_blocks, 1000, 12'500);
    ASSERT_EQ(advice.size(), 1u);
    EXPECT_EQ(advice[0].type, GGML_TYPE_F16);
}

TEST(Advise, CountsMoreBytesThanASizeHolds) {
    const auto advice = advise(kLosses, cell_bytes, size_t{1} << 60, 1000);
    EXPECT_GT(advice[0].ratio, 1e15);
    EXPECT_FALSE(advice[0].kl);
}

TEST(Advise, PutsLastWhatWasNotMeasured) {
    const auto advice = advise(kLosses, cell_bytes, 1000, 10'000); // q8_0 5x
    EXPECT_EQ(advice[0].type, GGML_TYPE_F16);
    EXPECT_FALSE(advice[1].kl);
}

TEST(MeasuredLosses, OfEachTypeBeginWithAllCellsAndRise) {
    const std::span<const CacheLoss> losses = measured_losses();
    EXPECT_FALSE(losses.empty());
    for (size_t i = 0; i < losses.size(); ++i) {
        if (i == 0 || losses[i].type != losses[i - 1].type) {
            EXPECT_EQ(losses[i].ratio, 1);
            continue;
        }
        EXPECT_GT(losses[i].ratio, losses[i - 1].ratio);
        EXPECT_GT(losses[i].kl, losses[i - 1].kl);
    }
}

} // namespace
} // namespace kvfold
