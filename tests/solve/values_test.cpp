#include "solve/values.h"

#include "reference/naive_head.h"
#include "reference/synthetic_head.h"
#include "solve/ridge.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

using reference::random_matrix;
using reference::Table;

struct ValueProblem {
    Matrix probabilities, output, kept;
};

// More unknowns than queries unless asked otherwise, where the anchor matters.
ValueProblem value_problem(Index queries, Index kept, Index width) {
    std::mt19937 random(11);
    Matrix x = (2 * random_matrix(queries, kept, random)).array().exp();
    x.array().colwise() /= x.rowwise().sum().array().eval();
    return {x, random_matrix(queries, width, random), random_matrix(kept, width, random)};
}

// The correction solves a system of condition 1 / ridge x t = 1e3 t; its f32 right side is off by n eps, so
// V' by at most 1e3 t n eps of the correction. In practice rounding errors do not add up: 1e-3 is far above
// both what is seen (1e-5) and far below what any broken twin does.
bool agrees_with_twin(const ValueProblem& problem, const Matrix& values) {
    const Table x = problem.probabilities.cast<double>(), anchor = problem.kept.cast<double>();
    const Table correction =
        reference::naive_ridge(x, problem.output.cast<double>() - x * anchor, kValueRidge);
    return (values.cast<double>() - anchor - correction).norm() <= 1e-3 * correction.norm();
}

TEST(Values, AgreeWithTheTwin) {
    for (const Index queries : {200, 60, 20, 1}) {
        const ValueProblem problem = value_problem(queries, 40, 24);
        Matrix values = problem.kept;
        ASSERT_TRUE(fit_values(problem.probabilities, problem.output, values));
        EXPECT_TRUE(agrees_with_twin(problem, values)) << queries;
    }
}

TEST(Values, BrokenTwinsAreNoticed) {
    const ValueProblem problem = value_problem(60, 40, 24);
    Matrix unanchored = Matrix::Zero(40, 24);
    ASSERT_TRUE(fit_values(problem.probabilities, problem.output, unanchored));
    EXPECT_FALSE(agrees_with_twin(problem, unanchored));
    Matrix fitted = problem.kept;
    ASSERT_TRUE(fit_values(problem.probabilities, problem.output, fitted));
    EXPECT_FALSE(agrees_with_twin(problem, 2 * problem.kept - fitted)); // correction subtracted
    EXPECT_FALSE(agrees_with_twin(problem, problem.kept));              // no correction
}

TEST(Values, AnOutputThatTheKeptValuesAlreadyGiveChangesNothing) {
    ValueProblem problem = value_problem(100, 30, 8);
    problem.output = problem.probabilities * problem.kept;
    Matrix values = problem.kept;
    ASSERT_TRUE(fit_values(problem.probabilities, problem.output, values));
    EXPECT_LT((values - problem.kept).norm(), 1e-5f * problem.kept.norm());
}

TEST(Values, OverflowIsAnError) {
    const ValueProblem problem = value_problem(100, 30, 8);
    Matrix values = 1e38f * problem.kept;
    const Matrix output = -1e38f * problem.output;
    const Status status = fit_values(problem.probabilities, output, values);
    EXPECT_TRUE(!status || values.allFinite());
    values.setConstant(NAN);
    EXPECT_EQ(fit_values(problem.probabilities, output, values).error().code, ErrorCode::numeric);
}

TEST(Ridge, AnIndefiniteGramGetsAStrongerRidge) {
    MatrixD gram = MatrixD::Identity(4, 4);
    gram(0, 0) = -1e-2; // as rounding may leave it
    const auto solution = solve_ridge(gram, MatrixD::Ones(4, 1), 1e-3);
    ASSERT_TRUE(solution);
    EXPECT_TRUE(solution->allFinite());
}

TEST(Ridge, ANegativeGramIsAnError) {
    EXPECT_EQ(solve_ridge(-MatrixD::Identity(4, 4), MatrixD::Ones(4, 1), 1e-3).error().code,
              ErrorCode::numeric);
}

TEST(Ridge, TheGramAgreesWithTheTwin) {
    std::mt19937 random(5);
    const Matrix a = random_matrix(300, 37, random);
    const Table slow = a.cast<double>().transpose() * a.cast<double>();
    // n eps |a_i| |a_j| bounds each entry.
    const double bound = 300.0 * std::numeric_limits<float>::epsilon() * slow.diagonal().maxCoeff();
    EXPECT_LT((gram(a) - slow).cwiseAbs().maxCoeff(), bound);
}

} // namespace
} // namespace kvfold
