#include "solve/solve_head.h"

#include "reference/synthetic_head.h"
#include "solve/absorb.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

using reference::asked_again;
using reference::rising_importance;
using reference::synthetic_head;
using reference::SyntheticHead;

constexpr Index kAsked = 150; // three times as many fit into one batch of the refinement

bool are_near(const CompactHead& a, const CompactHead& b, float most) {
    return a.kept == b.kept && a.keys.isApprox(b.keys, most) && a.values.isApprox(b.values, most) &&
           std::abs(a.output_error - b.output_error) < most * b.output_error &&
           std::abs(a.mass_error - b.mass_error) < most * b.mass_error &&
           std::abs(a.absorb_residual - b.absorb_residual) < 1e-5f;
}

struct Case {
    const char* name;
    SolvePlan plan;
    float softcap = 0;
    float shared = 8; // of the queries: what makes the absorbing direction one to be trusted
};

class Importance : public testing::TestWithParam<Case> {};

// Stage by stage.
TEST_P(Importance, IsHowOftenAQueryIsAsked) {
    const SyntheticHead head = synthetic_head({.queries = kAsked, .shared = GetParam().shared});
    const std::vector<float> each = rising_importance(kAsked);
    HeadProblem weighted = head.problem(GetParam().softcap), repeated = weighted;
    weighted.importance = each;
    const Matrix again = asked_again(head.queries);
    const HeadProblem asked{repeated.keys, repeated.values, again, repeated.scale, repeated.softcap};
    const SolveRequest request{.kept = 24};
    // Steps of Adam magnify the last bits of sums in another order.
    const float most = GetParam().plan.refine_steps > 0 ? 0.02f : 0.001f;
    const CompactHead wanted = solve_head(asked, GetParam().plan, request).value();
    if (GetParam().plan.fit_bias) {
        EXPECT_EQ(wanted.absorb_residual <= kTrustedResidual, GetParam().shared > 1);
    }
    EXPECT_TRUE(are_near(solve_head(weighted, GetParam().plan, request).value(), wanted, most));
    // The broken twin: all count alike.
    EXPECT_FALSE(are_near(solve_head(repeated, GetParam().plan, request).value(), wanted, most));
}

INSTANTIATE_TEST_SUITE_P(Stages, Importance,
                         testing::Values(Case{"Score", {.fit_bias = false, .fit_values = false}},
                                         Case{"Values", {.fit_bias = false}},
                                         Case{"Bias", {.fit_values = false}},
                                         Case{"BiasWithoutATrustedDirection", {.fit_values = false}, 0, 0.5f},
                                         Case{"BiasUnderASoftcap", {.fit_values = false}, 8},
                                         Case{"Pursuit", {.pursued = 0.5f}},
                                         Case{"Refinement", {.refine_steps = 4, .pursued = 0.5f}}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(ImportanceThatIsNotPositive, IsRefused) {
    const SyntheticHead head = synthetic_head({.queries = kAsked});
    for (const float wrong :
         {0.0f, -1.0f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        std::vector<float> each = rising_importance(kAsked);
        each[7] = wrong;
        HeadProblem problem = head.problem();
        problem.importance = each;
        const auto solved = solve_head(problem, {}, {.kept = 24});
        ASSERT_FALSE(solved);
        EXPECT_EQ(solved.error().code, ErrorCode::invalid_argument);
    }
}

} // namespace
} // namespace kvfold
