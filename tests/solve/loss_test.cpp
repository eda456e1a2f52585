#include "solve/loss.h"
#include "solve/solve_head.h"

#include "reference/naive_head.h"
#include "reference/synthetic_head.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

using reference::synthetic_head;
using reference::SyntheticHead;

double loss_of(const HeadProblem& problem, const CompactHead& head) {
    return matching_loss(attend_all(problem), attend_compact(problem, head.keys), head.values);
}

TEST(MatchingLoss, IsThatOfTheTwinOnQueriesThatTheHeadWasNotFittedTo) {
    for (const float softcap : {0.0f, 8.0f}) {
        const SyntheticHead head = synthetic_head({.queries = 600});
        const HeadProblem all = head.problem(softcap);
        const HeadProblem seen{all.keys, all.values, all.queries.topRows(400), all.scale, softcap};
        const HeadProblem unseen{all.keys, all.values, all.queries.bottomRows(200), all.scale, softcap};
        const CompactHead compact = solve_head(seen, {}, {.kept = 32}).value();
        const auto quality =
            reference::naive_quality(unseen, compact.keys.cast<double>(), compact.values.cast<double>());
        const double slow =
            quality.output_error * quality.output_error + 0.3 * quality.mass_error * quality.mass_error;
        EXPECT_NEAR(loss_of(unseen, compact), slow, 2e-3 * slow); // squares: twice solve_head_test's 1e-3
        // The broken twins: the queries it was fitted to look better, values of no cell worse.
        EXPECT_LT(loss_of(seen, compact), 0.98 * slow);
        CompactHead without = compact;
        without.values.setZero();
        EXPECT_GT(loss_of(unseen, without), 1.5 * slow);
    }
}

TEST(MatchingLoss, OfAllCellsIsZeroAndOfOutputsThatAreZeroFinite) {
    SyntheticHead head = synthetic_head({.cells = 40});
    const CompactHead all = solve_head(head.problem(), {}, {.kept = 40}).value();
    EXPECT_LT(loss_of(head.problem(), all), 1e-9);
    head.values.setZero();
    const CompactHead nothing = solve_head(head.problem(), {}, {.kept = 10}).value();
    EXPECT_TRUE(std::isfinite(loss_of(head.problem(), nothing)));
}

} // namespace
} // namespace kvfold
