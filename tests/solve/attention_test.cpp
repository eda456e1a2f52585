#include "reference/naive_head.h"
#include "reference/synthetic_head.h"
#include "solve/attention.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

using reference::Column;
using reference::logit_error;
using reference::naive_attention;
using reference::synthetic_head;
using reference::SyntheticHead;
using reference::SyntheticSizes;
using reference::Table;

using reference::kEpsilon;

void expect_twin_agrees(const SyntheticHead& head, float softcap, const std::vector<float>& importance = {}) {
    HeadProblem problem = head.problem(softcap);
    problem.importance = importance;
    const FullAttention fast = attend_all(problem);
    const auto slow = naive_attention(problem, head.keys.cast<double>(), head.values.cast<double>());
    // An error e in every logit is a factor of at most e^(2e) in every probability; sums over T cells add T
    // eps.
    const double relative = 2 * logit_error(problem) + kEpsilon * static_cast<double>(head.keys.rows());
    EXPECT_LT((fast.mass.cast<double>() - slow.mass).cwiseAbs().maxCoeff(),
              relative + kEpsilon * slow.mass.cwiseAbs().maxCoeff());
    const Column roots = roots_of_importance(importance, head.queries.rows()).cast<double>();
    const Table output = slow.output.array().colwise() * roots.array();
    EXPECT_LT((fast.output.cast<double>() - output).cwiseAbs().maxCoeff(),
              2 * relative * static_cast<double>(head.values.cwiseAbs().maxCoeff()) * roots.maxCoeff());
    // n terms more in the sum of squares; e^-30 is where small probabilities are cut.
    const double counted = 2 * relative + kEpsilon * static_cast<double>(head.queries.rows());
    EXPECT_LT(
        ((fast.score.cast<double>() - slow.score).array().abs() - counted * slow.score.array()).maxCoeff(),
        1e-12);
}

TEST(Attention, AgreesWithTheTwin) { expect_twin_agrees(synthetic_head({}), 0); }

TEST(Attention, AgreesWithTheTwinWhereQueriesDifferInImportance) {
    const SyntheticHead head = synthetic_head({});
    std::vector<float> importance;
    for (Index i = 0; i < head.queries.rows(); ++i)
        importance.push_back(i % 7 == 0 ? 40.0f : static_cast<float>(1 + i % 3));
    expect_twin_agrees(head, 0, importance);
    HeadProblem problem = head.problem();
    const Vector alike = attend_all(problem).score;
    problem.importance = importance;
    EXPECT_GT((attend_all(problem).score - alike).norm(),
              0.1f * alike.norm()); // broken twin: all count alike
}

TEST(Attention, AgreesWithTheTwinUnderASoftcap) { expect_twin_agrees(synthetic_head({}), 6); }

TEST(Attention, AgreesWithTheTwinWhenValuesAreNarrowerThanKeys) {
    expect_twin_agrees(synthetic_head({.key_width = 48, .value_width = 20}), 0);
}

TEST(Attention, AgreesWithTheTwinAcrossSeveralBlocksAndARest) {
    const Index rows = kBlockFloats / 2048;
    expect_twin_agrees(
        synthetic_head({.cells = 2048, .queries = 2 * rows + 7, .key_width = 8, .value_width = 8}), 0);
}

TEST(Attention, LogitsFarBelowTheMaximumLeaveNoDenormalsOrNaN) {
    SyntheticHead head = synthetic_head({});
    head.queries *= 1000;
    const FullAttention full = attend_all(head.problem());
    EXPECT_TRUE(full.output.allFinite() && full.mass.allFinite() && full.score.allFinite());
    const CompactAttention compact = attend_compact(head.problem(), head.keys);
    EXPECT_GE(compact.probabilities.minCoeff(), std::numeric_limits<float>::min());
    EXPECT_NEAR(compact.probabilities.rowwise().sum().maxCoeff(), 1, 1e-5); // T eps
}

TEST(Attention, SharesOfAllCellsAddUpToTheWholeMass) {
    const SyntheticHead head = synthetic_head({});
    const Matrix shares = mass_shares(head.problem(), head.keys, attend_all(head.problem()));
    EXPECT_NEAR(shares.rowwise().sum().minCoeff(), 1, 1e-4); // eps x the largest logit, and T eps
    EXPECT_NEAR(shares.rowwise().sum().maxCoeff(), 1, 1e-4);
}

} // namespace
} // namespace kvfold
