#include "device/values.h"

#include "heads.h"

namespace kvfold::device {
namespace {

using reference::Table;

void expect_values(const TestHeads& test, Index kept, Operands operands, double most) {
    const auto backend = test_backend(operands);
    HeadTensors held(*backend, sizes_of(test.problems, {}, {.kept = kept}));
    ASSERT_TRUE(held.allocate());
    ASSERT_TRUE(upload(held, test));
    ASSERT_TRUE(attend_all(held));
    ASSERT_TRUE(divide_by_size(held));
    const auto unit = read(held.unit);
    std::vector<Matrix> keys, chosen;
    for (const HeadProblem& head : test.problems) {
        keys.push_back(head.keys.topRows(kept));
        chosen.push_back(head.values.topRows(kept));
    }
    write_keys(held, keys);
    write_values(held, held.chosen, chosen);
    const Status fitted = fit_values(held);
    ASSERT_TRUE(fitted) << fitted.error().message;
    const std::vector<Matrix> values = read_values(held, held.fitted);
    const auto errors = read(held.errors), masses = read(held.mass_errors);
    for (size_t i = 0; i < test.problems.size(); ++i) {
        const HeadProblem& head = test.problems[i];
        const Table k = head.keys.topRows(kept).cast<double>(), v = head.values.topRows(kept).cast<double>();
        const auto full =
            reference::naive_attention(head, head.keys.cast<double>(), head.values.cast<double>());
        const auto compact = reference::naive_attention(head, k, v);
        const Table left = full.output - compact.output;
        const Table best = v + reference::naive_ridge(compact.probabilities, left, 1e-3);
        const Table mine = values[i].cast<double>();
        const auto error = [&](const Table& of_values) {
            return (compact.probabilities * of_values - full.output).norm();
        };
        EXPECT_LT(error(mine), most * error(best));
        EXPECT_LT(error(mine), 0.9 * left.norm());
        // What is reported is what the twin finds, of output and of mass.
        const double scaled = error(mine) * static_cast<double>(unit[i]);
        EXPECT_NEAR(std::sqrt(static_cast<double>(errors[i])), scaled, (most - 1) * scaled);
        const double mass = (compact.mass - full.mass).norm();
        EXPECT_NEAR(std::sqrt(static_cast<double>(masses[i])), mass, (most - 1) * mass);
    }
}

TEST(DeviceValues, LeaveAsLittleAsTheTwin) {
    expect_values(TestHeads({.cells = 256, .queries = 384}), 32, Operands::as_they_are, 1.01);
}

TEST(DeviceValues, CappedAndOfOddShapes) {
    expect_values(TestHeads({.cells = 203, .queries = 80, .key_width = 24, .value_width = 40}, 3, 20.0f), 19,
                  Operands::as_they_are, 1.03);
}

TEST(DeviceValues, WithRoundedOperands) {
    expect_values(TestHeads({.cells = 256, .queries = 384}), 32, Operands::eleven_bits, 1.02);
    expect_values(TestHeads({.cells = 256, .queries = 384}), 32, Operands::halves, 1.02);
}

} // namespace
} // namespace kvfold::device
