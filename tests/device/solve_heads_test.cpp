#include "device/solve_heads.h"

#include "device/check_device.h"
#include "heads.h"
#include "solve/absorb.h"

namespace kvfold::device {
namespace {

using reference::naive_quality;
using reference::Quality;

Quality quality(const HeadProblem& head, const CompactHead& compact) {
    return naive_quality(head, compact.keys.cast<double>(), compact.values.cast<double>());
}

void expect_as_good(const TestHeads& test, const SolvePlan& plan, Index kept, Operands operands,
                    double most) {
    if (device_rounds()) most += 0.03;
    const auto backend = test_backend(operands);
    const auto solved = solve(*backend, test, plan, {.kept = kept});
    ASSERT_TRUE(solved) << solved.error().message;
    for (size_t i = 0; i < test.problems.size(); ++i) {
        const HeadProblem& head = test.problems[i];
        const CompactHead& mine = solved.value()[i];
        const CompactHead wanted = solve_head(head, plan, {.kept = kept}).value();
        const Quality of_mine = quality(head, mine), of_wanted = quality(head, wanted);
        EXPECT_LT(of_mine.output_error, most * of_wanted.output_error);
        EXPECT_LT(of_mine.mass_error, most * of_wanted.mass_error + 1e-3);
        // It reports what it reached.
        EXPECT_NEAR(mine.output_error, of_mine.output_error, 0.02 * of_mine.output_error);
        EXPECT_NEAR(mine.mass_error, of_mine.mass_error, 0.02 * of_mine.mass_error + 1e-4);
        EXPECT_NEAR(mine.absorb_residual, wanted.absorb_residual, 1e-6);
        EXPECT_EQ(std::ssize(mine.kept), kept);
    }
}

TEST(DeviceSolve, IsAsGoodAsTheProcessor) {
    const TestHeads test({.cells = 384, .queries = 640}, 3);
    for (const SolvePlan plan : {SolvePlan{.fit_bias = false, .fit_values = false}, SolvePlan{},
                                 SolvePlan{.refine_steps = 3, .pursued = 0.25f}, SolvePlan{.pursued = 1}})
        expect_as_good(test, plan, 48, Operands::as_they_are, 1.03);
}

// One of importance 3 is one that is asked three times.
TEST(DeviceSolve, OfQueriesThatDifferInImportance) {
    constexpr Index kAsked = 144; // and 288 in all: both fill registers
    const std::vector<float> importance = reference::rising_importance(kAsked);
    for (const float softcap : {0.0f, 20.0f}) {
        for (const float shared : {0.5f, 8.0f}) { // a direction that is not to be trusted, and one that is
            const reference::SyntheticSizes sizes{.cells = 256, .queries = kAsked, .shared = shared};
            TestHeads alike(sizes, 2, softcap), weighted(sizes, 2, softcap), repeated(sizes, 2, softcap);
            for (size_t i = 0; i < weighted.problems.size(); ++i) {
                weighted.problems[i].importance = importance;
                repeated.heads[i].queries = reference::asked_again(repeated.heads[i].queries);
            }
            repeated.problems.clear();
            for (const reference::SyntheticHead& head : repeated.heads)
                repeated.problems.push_back(head.problem(softcap));
            for (const SolvePlan plan :
                 {SolvePlan{.fit_bias = false}, SolvePlan{}, SolvePlan{.refine_steps = 3, .pursued = 0.5f}}) {
                // Steps of Adam magnify the last bits of sums in another order.
                const float most = plan.refine_steps > 0 ? 0.05f : 0.01f;
                const auto backend = test_backend();
                const auto wanted = solve(*backend, repeated, plan, {.kept = 32});
                const auto solved = solve(*backend, weighted, plan, {.kept = 32});
                const auto unaware = solve(*backend, alike, plan, {.kept = 32}); // the broken twin
                ASSERT_TRUE(wanted && solved && unaware);
                for (size_t i = 0; i < wanted->size(); ++i) {
                    const CompactHead &one = (*wanted)[i], &other = (*solved)[i];
                    if (plan.fit_bias) {
                        EXPECT_EQ(one.absorb_residual <= kTrustedResidual, shared > 1);
                    }
                    EXPECT_EQ(other.kept, one.kept);
                    EXPECT_LT(relative(other.keys, one.keys), most);
                    EXPECT_NEAR(other.output_error, one.output_error, most * one.output_error);
                    EXPECT_NEAR(other.mass_error, one.mass_error, most * one.mass_error);
                    EXPECT_LT(2 * relative(other.values, one.values),
                              relative((*unaware)[i].values, one.values));
                }
            }
        }
    }
}

TEST(DeviceSolve, TheDoctorsCheckPasses) {
    const Status checked = check_device(test_device());
    EXPECT_TRUE(checked) << checked.error().message;
}

TEST(DeviceSolve, WithRoundedOperands) {
    const TestHeads test({.cells = 384, .queries = 640}, 3);
    for (const Operands operands : {Operands::eleven_bits, Operands::halves})
        expect_as_good(test, {.refine_steps = 3, .pursued = 0.25f}, 48, operands, 1.06);
}

// Queries that share no direction: the bias is taken in by quarters, or not at all.
TEST(DeviceSolve, OfQueriesWithoutADirection) {
    expect_as_good(TestHeads({.cells = 256, .queries = 384, .shared = 0}), {}, 32, Operands::as_they_are,
                   1.02);
    expect_as_good(TestHeads({.cells = 256, .queries = 384, .shared = 1}), {}, 32, Operands::as_they_are,
                   1.02);
}

TEST(DeviceSolve, OfCappedLogits) {
    expect_as_good(TestHeads({.cells = 256, .queries = 384}, 2, 20.0f), {.refine_steps = 2}, 32,
                   Operands::as_they_are, 1.03);
}

TEST(DeviceSolve, OfFewCellsAndQueries) {
    expect_as_good(TestHeads({.cells = 37, .queries = 48, .key_width = 8, .value_width = 12}, 1),
                   {.refine_steps = 2, .pursued = 0.5f}, 9, Operands::as_they_are, 1.1);
    const TestHeads few({.cells = 37, .queries = 15});
    const auto refused = solve(*test_backend(), few, {}, {.kept = 9});
    EXPECT_EQ(refused.error().code, ErrorCode::unsupported);
}

TEST(DeviceSolve, OfAllCellsLeavesThemAsTheyAre) {
    const TestHeads test({.cells = 64, .queries = 32});
    const auto solved = solve(*test_backend(), test, {}, {.kept = 64});
    ASSERT_TRUE(solved);
    EXPECT_EQ(solved.value()[1].keys, Matrix(test.problems[1].keys));
}

TEST(DeviceSolve, RoundsKeysBeforeValues) {
    const TestHeads test({.cells = 256, .queries = 384});
    const auto coarse = [](MutableMatrixView rows) {
        rows = (rows * 4).unaryExpr([](float x) { return std::round(x); }) / 4;
    };
    const auto solved = solve(*test_backend(), test, {}, {.kept = 32, .round_keys = coarse});
    ASSERT_TRUE(solved);
    for (size_t i = 0; i < test.problems.size(); ++i) {
        const CompactHead wanted =
            solve_head(test.problems[i], {}, {.kept = 32, .round_keys = coarse}).value();
        EXPECT_LT(quality(test.problems[i], (*solved)[i]).output_error,
                  1.03 * quality(test.problems[i], wanted).output_error);
        EXPECT_EQ(Matrix(4 * (*solved)[i].keys), Matrix((4 * (*solved)[i].keys).array().round()));
    }
}

TEST(DeviceSolve, RefusesWhatTheProcessorRefuses) {
    TestHeads test({.cells = 64, .queries = 32});
    EXPECT_EQ(solve(*test_backend(), test, {}, {.kept = 65}).error().code, ErrorCode::invalid_argument);
    test.heads[1].keys(3, 3) = std::numeric_limits<float>::quiet_NaN();
    EXPECT_EQ(solve(*test_backend(), test, {}, {.kept = 8}).error().code, ErrorCode::numeric);
}

} // namespace
} // namespace kvfold::device
