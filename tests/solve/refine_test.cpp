#include "solve/refine.h"
#include "solve/solve_head.h"

#include "reference/naive_head.h"
#include "reference/synthetic_head.h"
#include "solve/select.h"

#include <gtest/gtest.h>

#include <cmath>

namespace kvfold {
namespace {

using reference::random_matrix;
using reference::Table;

RefineBatch random_batch(Index queries, Index width, float softcap, std::mt19937& random) {
    Matrix output = random_matrix(queries, width, random);
    const float square = output.squaredNorm() / static_cast<float>(queries);
    return {random_matrix(queries, width, random),
            output,
            random_matrix(queries, 1, random),
            random_matrix(queries, 1, random).cwiseAbs(),
            0.5f,
            softcap,
            square};
}

// The loss as its definition, in double and plain loops. mass_weight is mu.
double naive_loss(const RefineBatch& batch, const Table& keys, const Table& values,
                  double mass_weight = 0.3) {
    double loss = 0;
    for (Index i = 0; i < batch.queries.rows(); ++i) {
        std::vector<double> weights;
        double sum = 0;
        for (Index j = 0; j < keys.rows(); ++j) {
            double logit = 0;
            for (Index c = 0; c < keys.cols(); ++c)
                logit += double(batch.scale) * double(batch.queries(i, c)) * keys(j, c);
            if (batch.softcap > 0) logit = batch.softcap * std::tanh(logit / batch.softcap);
            weights.push_back(std::exp(logit));
            sum += weights.back();
        }
        double square = 0;
        for (Index c = 0; c < values.cols(); ++c) {
            double output = 0;
            for (Index j = 0; j < keys.rows(); ++j)
                output += weights[size_t(j)] / sum * values(j, c);
            square += std::pow(double(batch.roots[i]) * output - double(batch.output(i, c)), 2);
        }
        loss += square / double(batch.mean_square) +
                mass_weight * std::pow(double(batch.roots[i]) * (std::log(sum) - double(batch.mass[i])), 2);
    }
    return loss / double(batch.queries.rows());
}

// Of `loss` by each entry of `at`.
template <class Loss> Table naive_gradient(Table at, const Loss& loss) {
    constexpr double kStep = 1e-5;
    Table gradient(at.rows(), at.cols());
    for (Index i = 0; i < at.size(); ++i) {
        const double here = at.data()[i];
        at.data()[i] = here + kStep;
        const double up = loss(at);
        at.data()[i] = here - kStep;
        gradient.data()[i] = (up - loss(at)) / (2 * kStep);
        at.data()[i] = here;
    }
    return gradient;
}

// Sums of a few hundred f32 products: 1e-4 of the gradient's norm is a hundred times the rounding expected.
bool agree(const Matrix& gradient, const Table& wanted) {
    return (gradient.cast<double>() - wanted).norm() <= 1e-4 * wanted.norm();
}

TEST(Refine, LossAndGradientAgreeWithFiniteDifferencesOfTheTwin) {
    for (const float softcap : {0.0f, 3.0f}) {
        std::mt19937 random(3);
        const RefineBatch batch = random_batch(40, 6, softcap, random);
        const Matrix keys = random_matrix(9, 6, random), values = random_matrix(9, 6, random);
        const RefineLoss result = refine_loss(batch, keys, values);
        const Table k = keys.cast<double>(), v = values.cast<double>();
        const auto by_keys = [&](const Table& keys) { return naive_loss(batch, keys, v); };
        const auto by_values = [&](const Table& values) { return naive_loss(batch, k, values); };
        const auto without_mass = [&](const Table& keys) {
            return naive_loss(batch, keys, v, /*mass_weight=*/0.0);
        };
        EXPECT_NEAR(result.loss, naive_loss(batch, k, v), 1e-5 * result.loss);
        EXPECT_TRUE(agree(result.keys, naive_gradient(k, by_keys))) << "softcap " << softcap;
        EXPECT_TRUE(agree(result.values, naive_gradient(v, by_values))) << "softcap " << softcap;
        EXPECT_FALSE(agree(result.keys, naive_gradient(k, without_mass)));
        EXPECT_FALSE(agree(0.9f * result.values, naive_gradient(v, by_values)));
    }
}

TEST(Refine, ASoftcapThatIsForgottenIsNoticed) {
    std::mt19937 random(3);
    RefineBatch batch = random_batch(40, 6, 3.0f, random);
    const Matrix keys = random_matrix(9, 6, random), values = random_matrix(9, 6, random);
    const Table fixed = values.cast<double>();
    const Table wanted = naive_gradient(keys.cast<double>(),
                                        [&](const Table& keys) { return naive_loss(batch, keys, fixed); });
    batch.softcap = 0;
    EXPECT_FALSE(agree(refine_loss(batch, keys, values).keys, wanted));
}

struct Errors {
    float output, mass;
};

// On queries that the fit has not seen: the second half of a head's queries.
Errors unseen_errors(const reference::SyntheticHead& head, Index kept, int steps) {
    const Index half = head.queries.rows() / 2;
    const Matrix first = head.queries.topRows(half), second = head.queries.bottomRows(half);
    const HeadProblem fit{head.keys, head.values, first, head.scale};
    const HeadProblem test{head.keys, head.values, second, head.scale};
    const auto compact = solve_head(fit, {.refine_steps = steps}, {.kept = kept});
    EXPECT_TRUE(compact);
    const auto quality =
        reference::naive_quality(test, compact->keys.cast<double>(), compact->values.cast<double>());
    return {static_cast<float>(quality.output_error), static_cast<float>(quality.mass_error)};
}

// Three steps lower the error by a fifteenth; so few cells take 56.
TEST(Refine, LowersBothErrorsOnUnseenQueries) {
    float before = 0, after = 0, mass_before = 0, mass_after = 0;
    for (uint32_t seed = 1; seed <= 4; ++seed) {
        const auto head = reference::synthetic_head({.cells = 256, .queries = 1200, .seed = seed});
        const Errors plain = unseen_errors(head, 24, 0), refined = unseen_errors(head, 24, 3);
        before += plain.output, after += refined.output;
        mass_before += plain.mass, mass_after += refined.mass;
    }
    EXPECT_LT(after, 0.8f * before);
    EXPECT_LT(mass_after, mass_before);
}

// At a rate that does not know how little is left to gain, the keys end worse and those given are kept.
TEST(Refine, LowersALossThatIsSmallAlready) {
    const auto head = reference::synthetic_head({.cells = 128, .queries = 600});
    const HeadProblem problem = head.problem();
    const FullAttention full = attend_all(problem);
    const std::vector<uint32_t> cells = select_cells(full.score, 100, {});
    const Matrix given = head.keys(cells, Eigen::all), values = head.values(cells, Eigen::all);
    Matrix keys = given;
    ASSERT_TRUE(refine_keys(problem, full, values, 64, keys));
    EXPECT_NE(keys, given);
}

TEST(Refine, KeysThatCannotBeBetteredStay) {
    const auto head = reference::synthetic_head({.cells = 64, .queries = 300});
    const HeadProblem problem = head.problem();
    const FullAttention full = attend_all(problem);
    Matrix keys = head.keys; // all cells: the loss is zero up to rounding
    ASSERT_TRUE(refine_keys(problem, full, head.values, 30, keys));
    EXPECT_EQ(keys, head.keys);
}

TEST(Refine, TheSameInputGivesTheSameKeys) {
    const auto head = reference::synthetic_head({.cells = 128, .queries = 600});
    const SolveRequest request{.kept = 20};
    const auto a = solve_head(head.problem(), {.refine_steps = 20}, request);
    const auto b = solve_head(head.problem(), {.refine_steps = 20}, request);
    const auto fewer = solve_head(head.problem(), {.refine_steps = 19}, request);
    ASSERT_TRUE(a && b && fewer);
    EXPECT_EQ(a->keys, b->keys);
    EXPECT_NE(a->keys, fewer->keys);
}

} // namespace
} // namespace kvfold
