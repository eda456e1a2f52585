// What a scan of keys finds agrees with the twin, wherever the keys lie.
#include "solve/scan.h"

#include "reference/naive_head.h"
#include "reference/synthetic_head.h"
#include "solve/attention.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

namespace kvfold {
namespace {

using reference::logit_error;
using reference::naive_attention;
using reference::synthetic_head;
using reference::SyntheticHead;
using reference::SyntheticSizes;

using reference::kEpsilon;

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

TEST(Scan, HighestOfAllQueriesAgreesWithTheTwin) {
    for (const SyntheticSizes& sizes :
         {SyntheticSizes{}, SyntheticSizes{.cells = 2048, .queries = kMinBlockRows + 7, .key_width = 8},
          SyntheticSizes{.cells = 333, .queries = 3, .key_width = 19}}) {
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
                // Probabilities are exp of a logit less a mass, both rounded.
                const double relative =
                    2 * logit_error(problem) +
                    kEpsilon * (static_cast<double>(head.keys.rows()) + 2 * slow.mass.cwiseAbs().maxCoeff());
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

TEST(Scan, AKeyThatIsNotFiniteIsSeen) {
    for (const bool is_half : {false, true}) {
        SyntheticHead head = synthetic_head({});
        EXPECT_TRUE(Scattered(head.keys, is_half).scan(head.problem()).allFinite());
        head.keys(7, 0) = std::numeric_limits<float>::quiet_NaN();
        EXPECT_TRUE(Scattered(head.keys, is_half).scan(head.problem()).array().isNaN().all());
    }
}

} // namespace
} // namespace kvfold
