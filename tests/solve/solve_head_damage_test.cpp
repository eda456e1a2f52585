// Input that no healthy model produces, and requests that make no sense: a finite result or a clear error.
#include "solve/solve_head.h"

#include "reference/synthetic_head.h"

#include <gtest/gtest.h>

#include <limits>

namespace kvfold {
namespace {

using reference::synthetic_head;
using reference::SyntheticHead;
using reference::SyntheticSizes;

constexpr SolvePlan kPlans[] = {
    {false, false}, {false, true}, {true, false}, {true, true}, {true, true, 3, 0.25f}};
constexpr float kInfinity = std::numeric_limits<float>::infinity();

void expect_finite(const SyntheticHead& head, Index kept, float softcap = 0) {
    for (const SolvePlan plan : kPlans) {
        const auto result = solve_head(head.problem(softcap), plan, {.kept = kept});
        ASSERT_TRUE(result) << result.error().message;
        EXPECT_TRUE(result->keys.allFinite() && result->values.allFinite());
        EXPECT_TRUE(std::isfinite(result->output_error) && std::isfinite(result->mass_error));
        EXPECT_EQ(std::ssize(result->kept), kept);
    }
}

void expect_error(const SyntheticHead& head, const SolveRequest& request, ErrorCode code, const char* word) {
    for (const SolvePlan plan : kPlans) {
        const auto result = solve_head(head.problem(), plan, request);
        ASSERT_FALSE(result);
        EXPECT_EQ(result.error().code, code);
        EXPECT_NE(result.error().message.find(word), std::string::npos) << result.error().message;
    }
}

TEST(SolveHeadDamage, OneQuery) { expect_finite(synthetic_head({.queries = 1}), 16); }

TEST(SolveHeadDamage, FewerQueriesThanCells) { expect_finite(synthetic_head({.queries = 5}), 64); }

TEST(SolveHeadDamage, OneCellKept) { expect_finite(synthetic_head({}), 1); }

TEST(SolveHeadDamage, OneCellOfTwo) { expect_finite(synthetic_head({.cells = 2}), 1); }

TEST(SolveHeadDamage, HeadsOfWidthOne) {
    expect_finite(synthetic_head({.key_width = 1, .value_width = 1}), 16);
}

TEST(SolveHeadDamage, QueriesThatAreAllTheSame) {
    SyntheticHead head = synthetic_head({});
    head.queries.rowwise() = Eigen::RowVectorXf(head.queries.row(3));
    expect_finite(head, 16);
}

TEST(SolveHeadDamage, QueriesThatAreAllZero) {
    SyntheticHead head = synthetic_head({});
    head.queries.setZero();
    expect_finite(head, 16);
    const CompactHead result = solve_head(head.problem(), {}, {.kept = 16}).value();
    EXPECT_EQ(result.kept.back(), 15u);                    // all scores are equal: the lowest indices
    EXPECT_LT(result.output_error, 0.05f);                 // the mean value is within reach of the values
    EXPECT_NEAR(result.mass_error, std::log(16.0f), 1e-4); // but no key can carry a bias: log(256 / 16)
}

TEST(SolveHeadDamage, EveryKeyTwice) {
    SyntheticHead head = synthetic_head({});
    head.keys.bottomRows(128) = Matrix(head.keys.topRows(128));
    expect_finite(head, 64);
}

TEST(SolveHeadDamage, KeysThatAreAllTheSame) {
    SyntheticHead head = synthetic_head({});
    head.keys.rowwise() = Eigen::RowVectorXf(head.keys.row(5));
    expect_finite(head, 16);
    // 16 cells stand for 256 of the same: all the bias has to do is log 16.
    EXPECT_LT(solve_head(head.problem(), {}, {.kept = 16})->mass_error, 0.3f);
}

TEST(SolveHeadDamage, KeysAndValuesThatAreAllZero) {
    SyntheticHead head = synthetic_head({});
    head.keys.setZero();
    head.values.setZero();
    expect_finite(head, 16);
    EXPECT_EQ(solve_head(head.problem(), {}, {.kept = 16})->output_error, 0);
}

TEST(SolveHeadDamage, LogitsOfTenThousand) {
    SyntheticHead head = synthetic_head({});
    head.queries *= 2000;
    ASSERT_GT(head.scale * (head.queries * head.keys.transpose()).maxCoeff(), 1e4f);
    expect_finite(head, 16);
    expect_finite(head, 16, /*softcap=*/30);
}

TEST(SolveHeadDamage, TinyNumbers) {
    SyntheticHead head = synthetic_head({});
    head.queries *= 1e-30f;
    head.keys *= 1e-30f;
    head.values *= 1e-30f;
    expect_finite(head, 16);
}

TEST(SolveHeadDamage, ASoftcapThatAllLogitsReach) {
    SyntheticHead head = synthetic_head({});
    head.queries *= 100;
    expect_finite(head, 16, /*softcap=*/0.5f);
}

TEST(SolveHeadDamage, HugeValuesAreFittedOrRefused) {
    SyntheticHead head = synthetic_head({});
    head.values *= 1e37f;
    const auto result = solve_head(head.problem(), {}, {.kept = 16});
    EXPECT_TRUE(result ? result->values.allFinite() : result.error().code == ErrorCode::numeric);
}

TEST(SolveHeadDamage, NaNOrInfinityAnywhereIsNamed) {
    for (const float bad : {NAN, kInfinity, -kInfinity}) {
        SyntheticHead head = synthetic_head({});
        head.keys(200, 7) = bad;
        expect_error(head, {.kept = 16}, ErrorCode::numeric, "keys");
        expect_error(head, {.kept = 256}, ErrorCode::numeric, "keys"); // t = T looks too
        head = synthetic_head({});
        head.values(0, 0) = bad;
        expect_error(head, {.kept = 16}, ErrorCode::numeric, "values");
        head = synthetic_head({});
        head.queries(383, 31) = bad;
        expect_error(head, {.kept = 16}, ErrorCode::numeric, "queries");
    }
}

TEST(SolveHeadDamage, LogitsBeyondF32AreRefused) {
    SyntheticHead head = synthetic_head({});
    head.queries *= 1e20f;
    head.keys *= 1e20f;
    expect_error(head, {.kept = 16}, ErrorCode::numeric, "overflow");
}

TEST(SolveHeadDamage, RoundingToInfinityIsRefused) {
    const auto overflow = [](MutableMatrixView rows) { rows(0, 0) = kInfinity; };
    expect_error(synthetic_head({}), {.kept = 16, .pinned = {}, .round_keys = overflow}, ErrorCode::numeric,
                 "cache type");
}

TEST(SolveHeadDamage, KeptOutOfRange) {
    const SyntheticHead head = synthetic_head({});
    for (const Index kept : {-1, 0, 257}) {
        expect_error(head, {.kept = kept}, ErrorCode::invalid_argument, "cannot keep");
    }
}

TEST(SolveHeadDamage, PinnedCellsThatMakeNoSense) {
    const SyntheticHead head = synthetic_head({});
    const std::vector<uint32_t> falling{5, 3}, twice{5, 5}, outside{256};
    for (const auto& pinned : {falling, twice, outside}) {
        expect_error(head, {.kept = 16, .pinned = pinned}, ErrorCode::invalid_argument, "rising");
    }
    const std::vector<uint32_t> many{1, 2, 3};
    expect_error(head, {.kept = 2, .pinned = many}, ErrorCode::invalid_argument, "pinned");
}

TEST(SolveHeadDamage, ShapesThatDisagree) {
    const SyntheticHead head = synthetic_head({});
    const auto code = [&](const Matrix& keys, const Matrix& values, const Matrix& queries, float scale,
                          float softcap) {
        return solve_head({keys, values, queries, scale, softcap}, {}, {.kept = 1}).error().code;
    };
    const Matrix none(0, 32);
    const auto bad = ErrorCode::invalid_argument;
    EXPECT_EQ(code(head.keys.topRows(9), head.values, head.queries, 1, 0), bad);
    EXPECT_EQ(code(head.keys.leftCols(9), head.values, head.queries, 1, 0), bad);
    EXPECT_EQ(code(head.keys, head.values, none, 1, 0), bad);
    EXPECT_EQ(code(none, none, head.queries, 1, 0), bad);
    for (const float scale : {0.0f, -1.0f, NAN, kInfinity}) {
        EXPECT_EQ(code(head.keys, head.values, head.queries, scale, 0), bad);
    }
    for (const float softcap : {-1.0f, NAN, kInfinity}) {
        EXPECT_EQ(code(head.keys, head.values, head.queries, 1, softcap), bad);
    }
}

} // namespace
} // namespace kvfold
