#include "solve/neutral.h"
#include "solve/solve_head.h"

#include "solve/absorb.h"

#include "reference/naive_head.h"
#include "reference/synthetic_head.h"

#include <gtest/gtest.h>

#include <numeric>

namespace kvfold {
namespace {

using reference::synthetic_head;
using reference::SyntheticHead;
using reference::Table;

// The head with one key more, and what the twin says this key receives from the query that sees it most.
double largest_share(const HeadProblem& problem, const Vector& key) {
    Table keys(problem.keys.rows() + 1, problem.keys.cols());
    keys << problem.keys.cast<double>(), key.transpose().cast<double>();
    return reference::naive_attention(problem, keys, Table()).probabilities.rightCols(1).maxCoeff();
}

Vector mass_of(const HeadProblem& problem) {
    return reference::naive_attention(problem, problem.keys.cast<double>(), Table()).mass.cast<float>();
}

std::optional<Vector> key_for(const HeadProblem& problem, const RoundRows& round = {}) {
    return neutral_key(problem, mass_of(problem), round).value();
}

// Half of the queries fit the key; what it must not be seen by are all.
HeadProblem first_half(const HeadProblem& problem) {
    return {problem.keys, problem.values, problem.queries.topRows(problem.queries.rows() / 2), problem.scale,
            problem.softcap};
}

TEST(NeutralKey, IsSeenByNoQueryOfTheHead) {
    for (const uint32_t seed : {1u, 2u, 3u}) {
        const SyntheticHead head = synthetic_head({.shared = 8, .seed = seed});
        const auto key = key_for(head.problem());
        ASSERT_TRUE(key);
        EXPECT_LT(largest_share(head.problem(), *key), kNeutralShare);
    }
}

TEST(NeutralKey, IsSeenByNoQueryThatWasNotThere) {
    const SyntheticHead head = synthetic_head({.queries = 2000, .shared = 8});
    const auto key = key_for(first_half(head.problem()));
    ASSERT_TRUE(key);
    EXPECT_LT(largest_share(head.problem(), *key), kNeutralShare);
}

TEST(NeutralKey, IsSeenByNoQueryBehindASoftcap) {
    const SyntheticHead head = synthetic_head({.shared = 8});
    const auto key = key_for(head.problem(/*softcap=*/20));
    ASSERT_TRUE(key);
    EXPECT_LT(largest_share(head.problem(20), *key), kNeutralShare);
}

TEST(NeutralKey, BrokenTwinsAreSeen) {
    const SyntheticHead head = synthetic_head({.shared = 8});
    const Vector key = key_for(head.problem()).value();
    EXPECT_GT(largest_share(head.problem(), -key), 0.9); // the wrong sign takes all the mass
    EXPECT_GT(largest_share(head.problem(), 0 * key), kNeutralShare);
    EXPECT_GT(largest_share(head.problem(), key / 8), kNeutralShare); // too short
    const Vector other = key_for(synthetic_head({.shared = 8, .seed = 2}).problem()).value();
    EXPECT_GT(largest_share(head.problem(), other), kNeutralShare); // another head's direction
}

TEST(NeutralKey, DoesNotExistForQueriesWithoutACommonDirection) {
    EXPECT_FALSE(key_for(synthetic_head({.shared = 0}).problem()));
}

TEST(NeutralKey, DoesNotExistWhereTheCapLetsNoLogitFallFarEnough) {
    EXPECT_FALSE(key_for(synthetic_head({.shared = 8}).problem(/*softcap=*/4)));
}

TEST(NeutralKey, IsCheckedAsTheCacheWillHoldIt) {
    const SyntheticHead head = synthetic_head({.shared = 8});
    const auto coarse = [](MutableMatrixView rows) { rows = (4 * rows).array().round() / 4; };
    const auto key = key_for(head.problem(), coarse);
    ASSERT_TRUE(key);
    EXPECT_TRUE(*key == Vector((4 * *key).array().round() / 4));
    EXPECT_LT(largest_share(head.problem(), *key), kNeutralShare);
    const auto erased = [](MutableMatrixView rows) { rows.setZero(); };
    EXPECT_FALSE(key_for(head.problem(), erased)); // nothing is left of it
}

TEST(SpreadHead, InNeutralSlotsIsTheSameHead) {
    const SyntheticHead head = synthetic_head({.shared = 8});
    const HeadProblem problem = head.problem();
    const CompactHead compact = solve_head(problem, {}, {.kept = 40}).value();
    const auto quality = [&](const CompactHead& any) {
        return reference::naive_quality(problem, any.keys.cast<double>(), any.values.cast<double>());
    };
    std::vector<uint32_t> slots(40);
    for (uint32_t i = 0; i < 40; ++i)
        slots[i] = 3 * i + 1;
    const Vector neutral = key_for(problem).value();
    const CompactHead spread = spread_head(compact, neutral, slots, 150);
    EXPECT_EQ(spread.keys.rows(), 150);
    EXPECT_EQ(spread.values.rows(), 150);
    EXPECT_EQ(spread.kept.size(), 150u);
    EXPECT_TRUE(std::is_sorted(spread.kept.begin(), spread.kept.end()));
    for (size_t i = 0; i < slots.size(); ++i) {
        EXPECT_TRUE(spread.keys.row(slots[i]) == compact.keys.row(static_cast<Index>(i)));
        EXPECT_EQ(spread.kept[slots[i]], compact.kept[i]);
    }
    // 110 slots of the bound's share each.
    EXPECT_NEAR(quality(spread).output_error, quality(compact).output_error, 110 * kNeutralShare);
    EXPECT_NEAR(quality(spread).mass_error, quality(compact).mass_error, 110 * kNeutralShare);
    // The broken twin: slots that are left empty.
    const CompactHead empty = spread_head(compact, Vector::Zero(neutral.size()), slots, 150);
    EXPECT_GT(std::abs(quality(empty).mass_error - quality(compact).mass_error), 10 * 110 * kNeutralShare);
}

} // namespace
} // namespace kvfold
