#include "solve/solve_head.h"

#include "reference/naive_head.h"
#include "reference/synthetic_head.h"

#include <gtest/gtest.h>

#include <cmath>

namespace kvfold {
namespace {

using reference::naive_quality;
using reference::naive_solve;
using reference::synthetic_head;
using reference::SyntheticHead;

constexpr SolvePlan kTwinPlans[] = {{false, false}, {false, true}, {true, false}, {true, true}};

// The reported errors are those of the returned rows, and as good as what the twin's own rows reach.
void expect_twin_agrees(const SyntheticHead& head, float softcap, Index kept) {
    const HeadProblem problem = head.problem(softcap);
    for (const SolvePlan plan : kTwinPlans) {
        const CompactHead fast = solve_head(problem, plan, {.kept = kept}).value();
        const auto slow = naive_solve(problem, plan, kept);
        EXPECT_EQ(fast.kept, slow.kept);
        const auto quality = naive_quality(problem, fast.keys.cast<double>(), fast.values.cast<double>());
        // Logits of up to 50 are off by 50 eps d; 1e-3 relative is ten times that.
        EXPECT_NEAR(fast.output_error, quality.output_error, 1e-3 * quality.output_error);
        EXPECT_NEAR(fast.mass_error, quality.mass_error, 1e-3 * quality.mass_error);
        // The bias is the loosest link: its objective is known to 1e-3, see bias_test.
        EXPECT_NEAR(fast.output_error, slow.output_error, 1e-2 * slow.output_error);
        EXPECT_NEAR(fast.mass_error, slow.mass_error, 1e-2 * slow.mass_error);
        EXPECT_NEAR(fast.absorb_residual, slow.absorb_residual, 1e-5);
    }
}

TEST(SolveHead, AgreesWithTheTwin) { expect_twin_agrees(synthetic_head({}), 0, 32); }

TEST(SolveHead, AgreesWithTheTwinUnderASoftcap) { expect_twin_agrees(synthetic_head({}), 8, 32); }

TEST(SolveHead, AgreesWithTheTwinWhereTheFoldCannotBeTrusted) {
    expect_twin_agrees(synthetic_head({.shared = 0.5f}), 0, 32);
}

TEST(SolveHead, AgreesWithTheTwinForOddSizes) {
    expect_twin_agrees(synthetic_head({.cells = 131, .queries = 77, .key_width = 19, .value_width = 43}), 0,
                       23);
}

TEST(SolveHead, AllCellsKeptComeBackAsTheyAre) {
    const SyntheticHead head = synthetic_head({.cells = 50});
    for (const SolvePlan plan : kTwinPlans) {
        const CompactHead result = solve_head(head.problem(), plan, {.kept = 50}).value();
        EXPECT_EQ(result.kept.size(), 50u);
        EXPECT_EQ(result.kept.back(), 49u);
        EXPECT_TRUE(result.keys == head.keys && result.values == head.values);
        EXPECT_EQ(result.output_error, 0);
        EXPECT_EQ(result.mass_error, 0);
    }
}

TEST(SolveHead, SelectAloneKeepsRowsUntouched) {
    const SyntheticHead head = synthetic_head({});
    const CompactHead result = solve_head(head.problem(), {false, false}, {.kept = 20}).value();
    EXPECT_TRUE(result.keys == Matrix(head.keys(result.kept, Eigen::all)));
    EXPECT_TRUE(result.values == Matrix(head.values(result.kept, Eigen::all)));
    EXPECT_EQ(result.absorb_residual, 0);
}

TEST(SolveHead, PinnedCellsSurvive) {
    const SyntheticHead head = synthetic_head({});
    const std::vector<uint32_t> pinned{1, 2, 3, 100, 254, 255};
    for (const Index kept : {6, 7, 60}) {
        const CompactHead result = solve_head(head.problem(), {}, {.kept = kept, .pinned = pinned}).value();
        EXPECT_EQ(std::ssize(result.kept), kept);
        EXPECT_TRUE(std::includes(result.kept.begin(), result.kept.end(), pinned.begin(), pinned.end()));
        EXPECT_TRUE(std::is_sorted(result.kept.begin(), result.kept.end()));
    }
}

TEST(SolveHead, ViewsWithAStrideGiveTheSameAsPackedMatrices) {
    const SyntheticHead head = synthetic_head({});
    Matrix layer = Matrix::Constant(256, 3 * 32, NAN); // the other heads must not be looked at
    Matrix values = layer, queries = Matrix::Constant(384, 70, NAN);
    layer.middleCols(32, 32) = head.keys;
    values.middleCols(64, 32) = head.values;
    queries.middleCols(5, 32) = head.queries;
    const HeadProblem strided{layer.middleCols(32, 32), values.middleCols(64, 32), queries.middleCols(5, 32),
                              head.scale};
    const CompactHead a = solve_head(strided, {}, {.kept = 32}).value();
    const CompactHead b = solve_head(head.problem(), {}, {.kept = 32}).value();
    EXPECT_EQ(a.kept, b.kept);
    EXPECT_TRUE(a.keys.isApprox(b.keys, 1e-5f) && a.values.isApprox(b.values, 1e-5f));
}

// Two bits of mantissa: far coarser than any cache type, so that the effect is plain.
void round_coarsely(MutableMatrixView rows) {
    rows = rows.unaryExpr([](float x) {
        int exponent = 0;
        const float mantissa = std::frexp(x, &exponent);
        return std::ldexp(std::round(mantissa * 4) / 4, exponent);
    });
}

TEST(SolveHead, KeysAreRoundedAndValuesAreFittedToTheRoundedKeys) {
    const SyntheticHead head = synthetic_head({});
    const CompactHead exact = solve_head(head.problem(), {}, {.kept = 32}).value();
    const CompactHead rounded =
        solve_head(head.problem(), {}, {.kept = 32, .pinned = {}, .round_keys = round_coarsely}).value();
    Matrix again = exact.keys;
    round_coarsely(again);
    EXPECT_TRUE(rounded.keys == again);
    // The broken twin: values fitted before rounding, used with the rounded keys.
    const auto fitted =
        naive_quality(head.problem(), rounded.keys.cast<double>(), rounded.values.cast<double>());
    const auto stale =
        naive_quality(head.problem(), rounded.keys.cast<double>(), exact.values.cast<double>());
    EXPECT_LT(fitted.output_error, 0.98 * stale.output_error);
}

TEST(SolveHead, AScaleMovedIntoTheQueriesChangesNothing) {
    const SyntheticHead head = synthetic_head({});
    SyntheticHead moved = head;
    moved.queries *= 4; // a power of two: no rounding
    moved.scale /= 4;
    const CompactHead a = solve_head(head.problem(), {}, {.kept = 32}).value();
    const CompactHead b = solve_head(moved.problem(), {}, {.kept = 32}).value();
    EXPECT_EQ(a.kept, b.kept);
    EXPECT_TRUE(a.keys == b.keys && a.values == b.values);
}

TEST(SolveHead, AScaleMovedIntoTheKeysScalesTheKeysAlone) {
    const SyntheticHead head = synthetic_head({});
    SyntheticHead moved = head;
    moved.keys *= 4;
    moved.scale /= 4;
    const CompactHead a = solve_head(head.problem(), {}, {.kept = 32}).value();
    const CompactHead b = solve_head(moved.problem(), {}, {.kept = 32}).value();
    EXPECT_EQ(a.kept, b.kept);
    EXPECT_TRUE(b.keys.isApprox(4 * a.keys, 1e-5f) && b.values.isApprox(a.values, 1e-4f));
}

TEST(SolveHead, ValuesScaleWithTheValues) {
    SyntheticHead head = synthetic_head({});
    const CompactHead a = solve_head(head.problem(), {}, {.kept = 32}).value();
    head.values *= 8;
    const CompactHead b = solve_head(head.problem(), {}, {.kept = 32}).value();
    EXPECT_TRUE(b.keys == a.keys && b.values.isApprox(8 * a.values, 1e-5f));
}

// The same vector on every key shifts all logits of a query alike: nothing that attention can see.
TEST(SolveHead, AShiftOfAllKeysShiftsTheCompactKeys) {
    const SyntheticHead head = synthetic_head({});
    SyntheticHead shifted = head;
    const Eigen::RowVectorXf shift = Eigen::RowVectorXf::LinSpaced(32, -0.5f, 0.5f);
    shifted.keys.rowwise() += shift;
    const CompactHead a = solve_head(head.problem(), {}, {.kept = 32}).value();
    const CompactHead b = solve_head(shifted.problem(), {}, {.kept = 32}).value();
    EXPECT_EQ(a.kept, b.kept);
    EXPECT_NEAR(a.output_error, b.output_error, 1e-3 * a.output_error);
    EXPECT_LT((b.keys - (a.keys.rowwise() + shift)).norm(), 1e-2f * a.keys.norm());
}

} // namespace
} // namespace kvfold
