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

TEST(TakeTokens, TokensKeepTheirImportance) {
    Study study = numbered_study(3), more = numbered_study(2);
    append_study(study, numbered_study(2));
    EXPECT_TRUE(study.importance.empty()); // all alike still
    more.importance = {4, 5};
    append_study(study, more);
    EXPECT_EQ(study.importance, (std::vector<float>{1, 1, 1, 1, 1, 4, 5}));
    const Study taken = take_tokens(study, {false, true, false, false, false, false, true});
    EXPECT_EQ(taken.importance, (std::vector<float>{1, 5}));
    EXPECT_EQ(queries_of_tokens(study, std::vector<Index>{5, 0}).importance, (std::vector<float>{4, 1}));
}

TEST(TakeTokens, OfNoneIsAnEmptyStudy) {
    EXPECT_EQ(take_tokens(numbered_study(3), {false, false, false}).tokens(), 0);
}

} // namespace
} // namespace kvfold
