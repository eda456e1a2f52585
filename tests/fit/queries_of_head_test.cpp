// Which rows of a study a head is asked, and what each counts.
#include "fit/solve_layers.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

// Row token * readers + reader of query head h holds 100 * token + 10 * reader + h.
struct Numbered {
    AttentionMap map;
    Study study;

    explicit Numbered(Index tokens) {
        constexpr Index kReaders = 2, kHeads = 6;
        map.layers = {
            {.readers = kReaders, .heads = kHeads, .kv_heads = 2, .key_width = 1, .value_width = 1}};
        Matrix rows(tokens * kReaders, kHeads);
        for (Index row = 0; row < rows.rows(); ++row)
            for (Index head = 0; head < kHeads; ++head)
                rows(row, head) = static_cast<float>(100 * (row / kReaders) + 10 * (row % kReaders) + head);
        study.layers = {{rows, kReaders}};
        for (Index token = 0; token < tokens; ++token)
            study.importance.push_back(static_cast<float>(token));
    }
};

TEST(QueriesOfHead, AreThoseOfItsGroupEachWithItsTokensImportance) {
    const Numbered asked(50);
    for (const Index most : {1000, 60, 7, 1}) {
        const Matrix queries = queries_of_head(asked.study, asked.map, 0, 1, most);
        const std::vector<float> importance = importance_of_head(asked.study, asked.map, 0, most);
        ASSERT_EQ(std::ssize(importance), queries.rows());
        EXPECT_LE(queries.rows(), std::max<Index>(3, std::min<Index>(300, most)));
        for (Index row = 0; row < queries.rows(); ++row) {
            const auto number = static_cast<int>(queries(row, 0));
            EXPECT_GE(number % 10, 3); // heads 3, 4 and 5 read KV head 1
            EXPECT_EQ(static_cast<float>(number / 100), importance[static_cast<size_t>(row)]);
        }
    }
}

TEST(QueriesOfHead, CountAlikeWhereNothingIsSaid) {
    Numbered asked(50);
    asked.study.importance.clear();
    EXPECT_TRUE(importance_of_head(asked.study, asked.map, 0, 60).empty());
}

} // namespace
} // namespace kvfold
