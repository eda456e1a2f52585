#include "solve/absorb.h"

#include "reference/naive_head.h"
#include "reference/synthetic_head.h"
#include "solve/attention.h"
#include "solve/bias.h"
#include "solve/select.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

using reference::synthetic_head;
using reference::SyntheticHead;
using reference::Table;

struct Stage {
    SyntheticHead head;
    FullAttention full;
    Matrix keys, shares;
    Vector bias;
};

Stage stage_before_fold(const SyntheticHead& head, float softcap, Index kept) {
    const HeadProblem problem = head.problem(softcap);
    const FullAttention full = attend_all(problem);
    Stage stage{head, full, head.keys(select_cells(full.score, kept, {}), Eigen::all), {}, {}};
    stage.shares = mass_shares(problem, stage.keys, full);
    stage.bias = fit_bias(stage.shares, full.roots).value();
    return stage;
}

float rms(const Vector& values) {
    return std::sqrt(values.squaredNorm() / static_cast<float>(values.size()));
}

double mass_error_of(const Stage& stage, float softcap, const Matrix& keys) {
    return mass_error(attend_compact(stage.head.problem(softcap), keys).mass, stage.full);
}

TEST(Absorb, DirectionAgreesWithTheTwin) {
    const SyntheticHead head = synthetic_head({});
    const AbsorbDirection absorbing = fit_direction(head.problem()).value();
    const Table scaled = head.queries.cast<double>() * double(head.scale);
    const Table slow = reference::naive_ridge(scaled, Table::Ones(scaled.rows(), 1), 1e-3);
    // The condition is 1e3 d at most, and the second round refines; what remains is the rounding of g.
    EXPECT_LT((absorbing.direction.cast<double>() - slow).norm(), 1e-6 * slow.norm());
    const double residual = std::sqrt((scaled * slow - Table::Ones(scaled.rows(), 1)).squaredNorm() /
                                      static_cast<double>(scaled.rows()));
    EXPECT_NEAR(absorbing.residual, residual, 1e-6);
    EXPECT_LT(absorbing.residual, kTrustedResidual);
}

TEST(Absorb, QueriesWithoutACommonDirectionHaveALargeResidual) {
    const SyntheticHead head = synthetic_head({.shared = 0});
    EXPECT_GT(fit_direction(head.problem()).value().residual, 0.8f);
}

TEST(Absorb, ZeroQueriesAbsorbNothing) {
    SyntheticHead head = synthetic_head({});
    head.queries.setZero();
    const AbsorbDirection absorbing = fit_direction(head.problem()).value();
    EXPECT_EQ(absorbing.direction.norm(), 0);
    EXPECT_FLOAT_EQ(absorbing.residual, 1);
}

TEST(Absorb, HugeQueriesDoNotOverflow) {
    SyntheticHead head = synthetic_head({});
    head.queries *= 1e25f; // squares are beyond f32
    EXPECT_LT(fit_direction(head.problem()).value().residual, kTrustedResidual);
}

// With a direction that is almost exact, absorbing must give what adding b to the logits gives.
TEST(Absorb, ActsLikeABiasAddedToTheLogits) {
    const SyntheticHead head = synthetic_head({.shared = 40});
    Stage stage = stage_before_fold(head, 0, 32);
    Matrix absorbed = stage.keys;
    const float residual =
        absorb_bias(head.problem(), stage.shares, stage.full, stage.bias, absorbed).value();
    ASSERT_LT(residual, 0.02f);
    const Vector exact = (stage.shares * stage.bias.array().exp().matrix()).array().log();
    const Vector actual = attend_compact(head.problem(), absorbed).mass - stage.full.mass;
    // Each logit is off by b_j (u_i - 1), RMS at most largest bias x residual.
    EXPECT_LT(rms(actual - exact), static_cast<float>(kLargestBias) * residual);
    // The broken twin: subtracting where it should add.
    const Vector flipped = attend_compact(head.problem(), 2 * stage.keys - absorbed).mass - stage.full.mass;
    EXPECT_GT(rms(flipped - exact), static_cast<float>(kLargestBias) * residual);
}

TEST(Absorb, UnderASoftcapTheBiasIsRaisedSoThatItActsBehindTheCap) {
    const SyntheticHead head = synthetic_head({.shared = 40});
    constexpr float kCap = 8;
    Stage stage = stage_before_fold(head, kCap, 32);
    Matrix aware = stage.keys, unaware = stage.keys;
    ASSERT_TRUE(absorb_bias(head.problem(kCap), stage.shares, stage.full, stage.bias, aware));
    ASSERT_TRUE(absorb_bias(head.problem(), stage.shares, stage.full, stage.bias, unaware));
    const double with = mass_error_of(stage, kCap, aware);
    EXPECT_LT(with, mass_error_of(stage, kCap, unaware)); // the broken twin: one that ignores the cap
    EXPECT_LT(with, mass_error_of(stage, kCap, stage.keys));
}

TEST(Absorb, ADirectionThatCannotBeTrustedNeverMakesTheMassWorse) {
    for (const float shared : {0.0f, 0.3f, 0.6f}) {
        const SyntheticHead head = synthetic_head({.shared = shared});
        Stage stage = stage_before_fold(head, 0, 32);
        Matrix absorbed = stage.keys;
        const float residual =
            absorb_bias(head.problem(), stage.shares, stage.full, stage.bias, absorbed).value();
        ASSERT_GT(residual, kTrustedResidual);
        const double before = mass_error_of(stage, 0, stage.keys);
        EXPECT_LE(mass_error_of(stage, 0, absorbed), before * (1 + 1e-5));
    }
}

} // namespace
} // namespace kvfold
