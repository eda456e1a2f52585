#include "study/study.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

// Row token * readers + reader holds 10 * token + reader.
Study numbered_study(Index tokens) {
    Study study;
    for (const Index readers : {1, 2, 3}) {
        Matrix rows(tokens * readers, 2);
        for (Index row = 0; row < rows.rows(); ++row)
            rows.row(row).setConstant(static_cast<float>(10 * (row / readers) + row % readers));
        study.layers.push_back({rows, readers});
    }
    return study;
}

TEST(TakeTokens, TakesWholeTokensOfAllReaders) {
    const Study taken = take_tokens(numbered_study(5), {false, true, false, false, true});
    EXPECT_EQ(taken.tokens(), 2);
    for (const LayerQueries& layer : taken.layers) {
        ASSERT_EQ(layer.rows.rows(), 2 * layer.readers);
        for (Index row = 0; row < layer.rows.rows(); ++row) {
            const Index token = row < layer.readers ? 1 : 4;
            EXPECT_EQ(layer.rows(row, 0), static_cast<float>(10 * token + row % layer.readers));
        }
    }
}

TEST(TakeTokens, OfNoneIsAnEmptyStudy) {
    EXPECT_EQ(take_tokens(numbered_study(3), {false, false, false}).tokens(), 0);
}

} // namespace
} // namespace kvfold
