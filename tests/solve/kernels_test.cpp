// Each variant of the solver that this processor runs, against the double-precision twin.
#include "solve/variants.h"

#include "reference/naive_head.h"
#include "reference/synthetic_head.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace kvfold {
namespace {

using reference::synthetic_head;
using reference::SyntheticHead;
using reference::Table;

// A build for one machine has one; the test brings a variant along.
std::vector<const Kernels*> all_kernels() {
    std::vector<const Kernels*> all = usable_kernels();
#ifdef KVFOLD_HAS_VARIANTS
    const bool has_it = std::ranges::count(all, &kvfold_kernels_avx2) > 0;
    if (!has_it && processor_has_avx2()) all.push_back(&kvfold_kernels_avx2);
#endif
    return all;
}

bool is_near(double fast, double slow, double relative) {
    return std::abs(fast - slow) <= relative * std::abs(slow);
}

// The tolerances are those of solve_head_test: 1e-3 for what is computed from the rows, 1e-2 behind a bias.
bool solve_agrees(const Kernels& kernels, const HeadProblem& problem) {
    const CompactHead fast = kernels.solve_head(problem, {}, {.kept = 32}).value();
    const auto slow = reference::naive_solve(problem, {}, 32);
    const auto quality =
        reference::naive_quality(problem, fast.keys.cast<double>(), fast.values.cast<double>());
    return fast.kept == slow.kept && is_near(fast.output_error, quality.output_error, 1e-3) &&
           is_near(fast.mass_error, quality.mass_error, 1e-3) &&
           is_near(fast.output_error, slow.output_error, 1e-2) &&
           is_near(fast.mass_error, slow.mass_error, 1e-2);
}

// Pursuit and refinement have no twin of the whole chain: what they report must be so, and better than
// without.
bool refinement_agrees(const Kernels& kernels, const HeadProblem& problem) {
    const SolvePlan plan{.refine_steps = 64, .pursued = 0.5f};
    const CompactHead fast = kernels.solve_head(problem, plan, {.kept = 32}).value();
    const auto quality =
        reference::naive_quality(problem, fast.keys.cast<double>(), fast.values.cast<double>());
    const auto plain = reference::naive_solve(problem, {}, 32);
    return is_near(fast.output_error, quality.output_error, 1e-3) &&
           is_near(fast.mass_error, quality.mass_error, 1e-3) &&
           quality.output_error < 0.98 * plain.output_error;
}

// 1e-5: 384 queries and 256 cells of width 32 in f32, see attention_test for the terms.
bool attention_agrees(const Kernels& kernels, const HeadProblem& problem) {
    const auto slow =
        reference::naive_attention(problem, problem.keys.cast<double>(), problem.values.cast<double>());
    const FullAttention full = kernels.attend_all(problem);
    const CompactAttention compact = kernels.attend_compact(problem, problem.keys);
    const auto agrees = [](const auto& fast, const auto& wanted) {
        return (fast.template cast<double>() - wanted).norm() <= 1e-5 * wanted.norm();
    };
    return agrees(full.mass, slow.mass) && agrees(full.output, slow.output) &&
           agrees(full.score, slow.score) && agrees(compact.mass, slow.mass) &&
           agrees(compact.probabilities, slow.probabilities);
}

// As in loss_test.
bool loss_agrees(const Kernels& kernels, const HeadProblem& problem) {
    const auto head = reference::naive_solve(problem, {}, 32);
    const auto quality = reference::naive_quality(problem, head.keys, head.values);
    const double slow = quality.output_error * quality.output_error +
                        static_cast<double>(kMassWeight) * quality.mass_error * quality.mass_error;
    const Matrix keys = head.keys.cast<float>(), values = head.values.cast<float>();
    const double fast =
        kernels.matching_loss(kernels.attend_all(problem), kernels.attend_compact(problem, keys), values);
    return is_near(fast, slow, 2e-3);
}

// As in neutral_test: what any query gives the key.
bool neutral_agrees(const Kernels& kernels, const HeadProblem& problem) {
    const Table keys = problem.keys.cast<double>();
    const Vector mass = reference::naive_attention(problem, keys, Table()).mass.cast<float>();
    const std::optional<Vector> key = kernels.neutral_key(problem, mass, {}).value();
    Table with_key(keys.rows() + 1, keys.cols());
    with_key << keys, key.value().transpose().cast<double>();
    return reference::naive_attention(problem, with_key, Table()).probabilities.rightCols(1).maxCoeff() <
           kNeutralShare;
}

class EachKernels : public testing::TestWithParam<const Kernels*> {};

TEST_P(EachKernels, AgreeWithTheTwin) {
    for (const SyntheticHead& head :
         {synthetic_head({.shared = 8}),
          synthetic_head({.cells = 131, .queries = 277, .key_width = 19, .value_width = 43, .shared = 8})}) {
        const HeadProblem problem = head.problem();
        EXPECT_TRUE(solve_agrees(*GetParam(), problem));
        EXPECT_TRUE(solve_agrees(*GetParam(), head.problem(/*softcap=*/8)));
        EXPECT_TRUE(refinement_agrees(*GetParam(), problem));
        EXPECT_TRUE(attention_agrees(*GetParam(), problem));
        EXPECT_TRUE(loss_agrees(*GetParam(), problem));
        EXPECT_TRUE(neutral_agrees(*GetParam(), problem));
    }
}

INSTANTIATE_TEST_SUITE_P(Kernels, EachKernels, testing::ValuesIn(all_kernels()),
                         [](const auto& kernels) { return std::string(kernels.param->name); });

// The broken twin: what a variant would give that is off by a few hundredths.
HeadProblem damaged(const HeadProblem& problem) {
    HeadProblem wrong = problem;
    wrong.scale *= 1.03f;
    return wrong;
}

TEST(BrokenKernels, AreNoticed) {
    const SyntheticHead head = synthetic_head({.shared = 8});
    Kernels broken = *usable_kernels().front();
    broken.solve_head = [](const HeadProblem& problem, const SolvePlan& plan, const SolveRequest& request) {
        auto solved = usable_kernels().front()->solve_head(problem, plan, request);
        solved->values *= 1.03f;
        return solved;
    };
    broken.attend_all = [](const HeadProblem& problem) { return attend_all(damaged(problem)); };
    broken.matching_loss = [](const FullAttention& full, const CompactAttention& compact,
                              const Matrix& values) { return matching_loss(full, compact, 1.03f * values); };
    broken.neutral_key = [](const HeadProblem& problem, const Vector& mass, const RoundRows& round) {
        auto key = neutral_key(problem, mass, round);
        **key /= 4;
        return key;
    };
    EXPECT_FALSE(solve_agrees(broken, head.problem()));
    EXPECT_FALSE(refinement_agrees(broken, head.problem()));
    EXPECT_FALSE(attention_agrees(broken, head.problem()));
    EXPECT_FALSE(loss_agrees(broken, head.problem()));
    EXPECT_FALSE(neutral_agrees(broken, head.problem()));
}

TEST(ChooseKernels, TakesTheFastestOrThoseThatAreNamed) {
    Kernels fast = *usable_kernels().front(), slow = fast;
    fast.name = "fast", slow.name = "slow";
    const std::vector<const Kernels*> usable = {&fast, &slow};
    EXPECT_EQ(choose_kernels(usable, "").value(), &fast);
    EXPECT_EQ(choose_kernels(usable, "slow").value(), &slow);
    const auto refused = choose_kernels(usable, "slo");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().message, "KVFOLD_KERNELS=slo: this build on this processor has fast, slow");
}

} // namespace
} // namespace kvfold
