#include "solve/select.h"

#include "reference/naive_head.h"

#include <gtest/gtest.h>

#include <random>

namespace kvfold {
namespace {

using Cells = std::vector<uint32_t>;

Vector scores(std::initializer_list<float> list) {
    Vector result(static_cast<Index>(list.size()));
    std::copy(list.begin(), list.end(), result.begin());
    return result;
}

TEST(Select, TakesTheBestScoresInRisingOrder) {
    EXPECT_EQ(select_cells(scores({1, 5, 2, 4, 3}), 3, {}), (Cells{1, 3, 4}));
}

TEST(Select, EqualScoresGoToTheLowerIndex) {
    EXPECT_EQ(select_cells(scores({1, 2, 2, 2, 2}), 2, {}), (Cells{1, 2}));
    EXPECT_EQ(select_cells(scores({0, 0, 0, 0}), 3, {}), (Cells{0, 1, 2}));
}

TEST(Select, PinnedCellsComeFirstWhateverTheirScore) {
    EXPECT_EQ(select_cells(scores({0, 5, 0, 4, 3}), 3, Cells{0, 2}), (Cells{0, 1, 2}));
}

TEST(Select, PinnedCellsMayFillTheWholeBudget) {
    EXPECT_EQ(select_cells(scores({0, 5, 0, 4}), 2, Cells{0, 2}), (Cells{0, 2}));
}

TEST(Select, AllCellsAreAllCells) { EXPECT_EQ(select_cells(scores({3, 1, 2}), 3, {}), (Cells{0, 1, 2})); }

TEST(Select, AgreesWithTheTwinOnRandomScoresWithManyTies) {
    std::mt19937 random(7);
    for (int trial = 0; trial < 50; ++trial) {
        const Vector score = Vector::NullaryExpr(97, [&] { return static_cast<float>(random() % 20); });
        const Cells pinned{3, 50, 96};
        const Index kept = 3 + static_cast<Index>(random() % 90);
        EXPECT_EQ(select_cells(score, kept, pinned),
                  reference::naive_select(score.cast<double>(), kept, pinned));
    }
}

} // namespace
} // namespace kvfold
