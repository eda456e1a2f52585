#include "device/refine.h"

#include "heads.h"
#include "solve/loss.h"
#include "solve/refine.h"

namespace kvfold::device {
namespace {

// L of a compact head by the twin, over all queries.
double loss_of(const HeadProblem& head, const Matrix& keys, const Matrix& values) {
    const auto full = reference::naive_attention(head, head.keys.cast<double>(), head.values.cast<double>());
    const auto compact = reference::naive_attention(head, keys.cast<double>(), values.cast<double>());
    const double square = full.output.squaredNorm() / static_cast<double>(full.output.rows());
    const double output = (compact.output - full.output).squaredNorm() / square;
    return (output + kMassWeight * (compact.mass - full.mass).squaredNorm()) /
           static_cast<double>(full.mass.size());
}

void expect_refined(float softcap, Operands operands, double most) {
    if (device_rounds()) most += 0.02;
    const TestHeads test({.cells = 256, .queries = 768}, 2, softcap);
    const auto backend = test_backend(operands);
    for (const int steps : {0, 4}) {
        const SolvePlan plan{.refine_steps = steps};
        const auto solved = solve(*backend, test, plan, {.kept = 32});
        ASSERT_TRUE(solved) << solved.error().message;
        for (size_t i = 0; i < test.problems.size(); ++i) {
            const HeadProblem& head = test.problems[i];
            const CompactHead wanted = solve_head(head, plan, {.kept = 32}).value();
            const CompactHead plain = solve_head(head, {}, {.kept = 32}).value();
            const double mine = loss_of(head, solved.value()[i].keys, solved.value()[i].values);
            EXPECT_LT(mine, most * loss_of(head, wanted.keys, wanted.values)) << steps;
            const double unmoved = loss_of(head, plain.keys, plain.values);
            EXPECT_LT(mine, steps > 0 ? 0.9 * unmoved : 1.01 * unmoved);
        }
    }
}

TEST(DeviceRefine, LowersTheLossAsTheProcessorDoes) { expect_refined(0, Operands::as_they_are, 1.02); }

TEST(DeviceRefine, LowersTheLossOfCappedLogits) { expect_refined(20, Operands::as_they_are, 1.02); }

TEST(DeviceRefine, WithRoundedOperands) {
    expect_refined(0, Operands::eleven_bits, 1.03);
    expect_refined(0, Operands::halves, 1.03);
}

} // namespace
} // namespace kvfold::device
