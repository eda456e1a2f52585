#include "reference/naive_head.h"
#include "reference/synthetic_head.h"
#include "solve/attention.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

using reference::naive_attention;
using reference::synthetic_head;
using reference::SyntheticHead;
using reference::SyntheticSizes;
using reference::Table;

constexpr double kEpsilon = std::numeric_limits<float>::epsilon();

// A dot product of d terms in f32 is off by at most (d + 2) eps |scale q| |k|; tanh never enlarges that.
double logit_error(const HeadProblem& problem) {
    const double longest = problem.scale * problem.queries.rowwise().norm().maxCoeff() *
                           problem.keys.rowwise().norm().maxCoeff();
    return kEpsilon * (static_cast<double>(problem.keys.cols()) + 2) * longest + 4 * kEpsilon;
}

void expect_twin_agrees(const SyntheticHead& head, float softcap) {
    const HeadProblem problem = head.problem(softcap);
    const FullAttention fast = attend_all(problem);
    const auto slow = naive_attention(problem, head.keys.cast<double>(), head.values.cast<double>());
    // An error e in every logit is a factor of at most e^(2e) in every probability; sums over T cells add T
    // eps.
    const double relative = 2 * logit_error(problem) + kEpsilon * static_cast<double>(head.keys.rows());
    EXPECT_LT((fast.mass.cast<double>() - slow.mass).cwiseAbs().maxCoeff(),
              relative + kEpsilon * slow.mass.cwiseAbs().maxCoeff());
    EXPECT_LT((fast.output.cast<double>() - slow.output).cwiseAbs().maxCoeff(),
              2 * relative * head.values.cwiseAbs().maxCoeff());
    // n terms more in the sum of squares; e^-30 is where small probabilities are cut.
    const double counted = 2 * relative + kEpsilon * static_cast<double>(head.queries.rows());
    EXPECT_LT(
        ((fast.score.cast<double>() - slow.score).array().abs() - counted * slow.score.array()).maxCoeff(),
        1e-12);
}

TEST(Attention, AgreesWithTheTwin) { expect_twin_agrees(synthetic_head({}), 0); }

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
    const Matrix shares = mass_shares(head.problem(), head.keys, attend_all(head.problem()).mass);
    EXPECT_NEAR(shares.rowwise().sum().minCoeff(), 1, 1e-4); // eps x the largest logit, and T eps
    EXPECT_NEAR(shares.rowwise().sum().maxCoeff(), 1, 1e-4);
}

// Keys in two places, as floats and as halves, with rows of other heads between them.
struct Scattered {
    explicit Scattered(const Matrix& keys, bool is_half) : is_half(is_half) {
        const size_t bytes = is_half ? sizeof(Eigen::half) : sizeof(float);
        stride = 3 * static_cast<size_t>(keys.cols()) * bytes;
        for (std::vector<uint8_t>* part : {&one, &two})
            part->resize(static_cast<size_t>(keys.rows()) * stride, 0x55);
        for (Index i = 0; i < keys.rows(); ++i) {
            const bool is_first = i < keys.rows() / 3;
            (is_first ? in_one : in_two).push_back(static_cast<uint32_t>(i));
            uint8_t* row = (is_first ? one : two).data() + static_cast<size_t>(i) * stride;
            const Eigen::Matrix<Eigen::half, 1, Eigen::Dynamic> halves = keys.row(i).cast<Eigen::half>();
            if (is_half)
                std::memcpy(row, halves.data(), static_cast<size_t>(keys.cols()) * bytes);
            else
                std::memcpy(row, keys.row(i).data(), static_cast<size_t>(keys.cols()) * bytes);
        }
    }
    Vector scan(const HeadProblem& problem) const {
        const std::vector<KeyRows> rows = {{one.data(), stride, is_half, in_one},
                                           {two.data(), stride, is_half, in_two}};
        return highest_attention({rows, problem.queries, problem.scale, problem.softcap});
    }
    bool is_half;
    size_t stride;
    std::vector<uint8_t> one, two;
    std::vector<uint32_t> in_one, in_two;
};

TEST(Attention, HighestOfAllQueriesAgreesWithTheTwin) {
    for (const SyntheticSizes& sizes :
         {SyntheticSizes{}, SyntheticSizes{.cells = 2048, .queries = kMinBlockRows + 7, .key_width = 8}}) {
        for (const bool is_half : {false, true}) {
            SyntheticHead head = synthetic_head(sizes);
            head.keys.row(5) *= 1e-6f; // no normal halves
            if (is_half) head.keys = head.keys.cast<Eigen::half>().cast<float>().eval();
            const Scattered scattered(head.keys, is_half);
            for (const float softcap : {0.0f, 6.0f}) {
                const HeadProblem problem = head.problem(softcap);
                const Vector fast = scattered.scan(problem);
                const auto slow =
                    naive_attention(problem, head.keys.cast<double>(), head.values.cast<double>());
                const reference::Column highest = slow.probabilities.colwise().maxCoeff();
                const double relative =
                    2 * logit_error(problem) + kEpsilon * static_cast<double>(head.keys.rows());
                const auto excess = [&](const reference::Column& expected) {
                    return ((fast.cast<double>() - expected).array().abs() - relative * expected.array())
                        .maxCoeff();
                };
                EXPECT_LT(excess(highest), 1e-12);
                EXPECT_GT(excess(slow.probabilities.colwise().mean()), 1e-3); // broken twin: what all look at
            }
        }
    }
}

TEST(Attention, AKeyThatIsNotFiniteIsSeen) {
    for (const bool is_half : {false, true}) {
        SyntheticHead head = synthetic_head({});
        EXPECT_TRUE(Scattered(head.keys, is_half).scan(head.problem()).allFinite());
        head.keys(7, 0) = std::numeric_limits<float>::quiet_NaN();
        EXPECT_TRUE(Scattered(head.keys, is_half).scan(head.problem()).array().isNaN().all());
    }
}

} // namespace
} // namespace kvfold
