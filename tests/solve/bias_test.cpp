#include "solve/bias.h"

#include "reference/naive_head.h"
#include "reference/synthetic_head.h"
#include "solve/attention.h"
#include "solve/select.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

using reference::bias_objective;
using reference::Column;
using reference::Table;

Matrix shares_of(const reference::SyntheticHead& head, Index kept) {
    const HeadProblem problem = head.problem();
    const FullAttention full = attend_all(problem);
    const Matrix keys = head.keys(select_cells(full.score, kept, {}), Eigen::all);
    return mass_shares(problem, keys, full);
}

// Of queries that count alike.
Vector fit_alike(const Matrix& shares) { return fit_bias(shares, Vector::Ones(shares.rows())).value(); }

// Entries of the f32 Gram are off by n eps relative, so the objective at the returned weights is at most
// 2 n eps ||A w||^2 ~ 2 n eps n above the minimum; both columns of the comparison are in double.
bool is_minimum(const Matrix& shares, const Vector& bias) {
    const Table a = shares.cast<double>();
    const auto n = static_cast<double>(shares.rows());
    const double least = bias_objective(a, reference::naive_weights(a));
    const Column weights = bias.cast<double>().array().exp();
    const double allowed = 2 * n * n * std::numeric_limits<float>::epsilon();
    return bias_objective(a, weights) <= least + std::min(allowed, 1e-2 * least + 1e-4);
}

TEST(Bias, ReachesTheMinimumOfTheTwin) {
    for (const uint32_t seed : {1u, 2u, 3u}) {
        const Matrix shares = shares_of(reference::synthetic_head({.seed = seed}), 32);
        EXPECT_TRUE(is_minimum(shares, fit_alike(shares)));
    }
}

TEST(Bias, BrokenTwinsAreNoticed) {
    const Matrix shares = shares_of(reference::synthetic_head({}), 32);
    const Vector bias = fit_alike(shares);
    EXPECT_FALSE(is_minimum(shares, -bias));                       // sign flipped
    EXPECT_FALSE(is_minimum(shares, bias.array().exp()));          // weights in place of their logs
    EXPECT_FALSE(is_minimum(shares, Vector::Zero(shares.cols()))); // no bias at all
    EXPECT_FALSE(is_minimum(shares, bias.array() + 0.1f));         // 10 % too much mass
}

TEST(Bias, StaysInItsBox) {
    const Matrix shares = shares_of(reference::synthetic_head({}), 4);
    const Vector bias = fit_alike(shares);
    const auto bound = static_cast<float>(kLargestBias) * (1 + 1e-6f);
    EXPECT_LE(bias.cwiseAbs().maxCoeff(), bound);
}

TEST(Bias, CellsThatHoldHalfTheMassAreDoubled) {
    // Two cells, each seen by its own queries, each with half of the mass.
    Matrix shares = Matrix::Zero(10, 2);
    shares.col(0).head(5).setConstant(0.5f);
    shares.col(1).tail(5).setConstant(0.5f);
    const Vector bias = fit_alike(shares);
    EXPECT_NEAR(bias[0], std::log(2.0f), 1e-3); // the ridge pulls by 1e-4
    EXPECT_NEAR(bias[1], std::log(2.0f), 1e-3);
}

TEST(Bias, RepeatedColumnsShareTheWeight) {
    const Matrix shares = Matrix::Constant(50, 5, 0.1f);
    const Vector bias = fit_alike(shares);
    // Only the ridge tells the columns apart, so rounding of the f32 Gram grows by 1 / ridge: 2 t eps / 1e-4.
    const float allowed = 10 * std::numeric_limits<float>::epsilon() / static_cast<float>(kBiasRidge);
    EXPECT_LT((bias.array() - std::log(2.0f)).abs().maxCoeff(), allowed);
}

TEST(Bias, MoreCellsThanQueriesIsStillAMinimum) {
    const Matrix shares = shares_of(reference::synthetic_head({.queries = 10}), 40);
    EXPECT_TRUE(is_minimum(shares, fit_alike(shares)));
}

TEST(Bias, AnInvisibleCellIsLeftAsItIs) {
    Matrix shares = Matrix::Constant(20, 2, 1.0f);
    shares.col(1).setConstant(std::exp(kLowestLogit));
    EXPECT_NEAR(fit_alike(shares)[1], 0, 1e-5);
}

TEST(Bias, NaNIsAnError) {
    EXPECT_EQ(fit_bias(Matrix::Constant(3, 2, NAN), Vector::Ones(3)).error().code, ErrorCode::numeric);
}

} // namespace
} // namespace kvfold
