#include "device/attention.h"

#include "heads.h"

namespace kvfold::device {
namespace {

using reference::naive_attention;

void expect_full_attention(const TestHeads& test, Operands operands = Operands::as_they_are) {
    const auto backend = test_backend(operands);
    HeadTensors held(*backend, sizes_of(test.problems, {}, {.kept = 8}));
    ASSERT_TRUE(held.allocate());
    ASSERT_TRUE(upload(held, test));
    const Status attended = attend_all(held);
    ASSERT_TRUE(attended) << attended.error().message;
    const auto score = read(held.score), mass = read(held.mass), output = read(held.output);
    const HeadSizes& of = held.sizes;
    for (size_t i = 0; i < test.problems.size(); ++i) {
        const HeadProblem& given = test.problems[i];
        const auto some = static_cast<size_t>(of.queries); // as many as fill registers
        const HeadProblem head{
            given.keys,  given.values,  given.queries.topRows(of.queries),
            given.scale, given.softcap, given.importance.first(given.importance.empty() ? 0 : some)};
        const auto wanted = naive_attention(head, head.keys.cast<double>(), head.values.cast<double>());
        // A logit of size 20 is wrong by 20 roundings, and so is what it is the exponent of.
        const double most = 100 * static_cast<double>(rounding(operands));
        EXPECT_LT(relative(head_of(score, i, of.padded_cells(), 1).topRows(of.cells), wanted.score), most);
        const Matrix counted = wanted.output.cast<float>().array().colwise() *
                               roots_of_importance(head.importance, of.queries).array();
        EXPECT_LT(relative(head_of(output, i, of.queries, of.value_width), counted), most);
        EXPECT_LT((head_of(mass, i, of.queries, 1).cast<double>() - wanted.mass).cwiseAbs().maxCoeff(), most);
        EXPECT_EQ(head_of(score, i, of.padded_cells(), 1).bottomRows(of.padded_cells() - of.cells).norm(), 0);
    }
}

TEST(DeviceAttention, IsThatOfTheTwin) { expect_full_attention(TestHeads({.cells = 256, .queries = 384})); }

TEST(DeviceAttention, OfQueriesThatDifferInImportance) {
    for (const Index cells : {256, 3000}) { // in one block and in several
        TestHeads test({.cells = cells, .queries = 215, .key_width = 16, .value_width = 16});
        std::vector<float> importance;
        for (Index i = 0; i < 215; ++i)
            importance.push_back(i % 7 == 0 || i > 208 ? 40.0f : static_cast<float>(1 + i % 3));
        for (HeadProblem& problem : test.problems)
            problem.importance = importance;
        expect_full_attention(test);
    }
}

TEST(DeviceAttention, OfCellsThatFillNoRegister) {
    expect_full_attention(TestHeads({.cells = 203, .queries = 80, .key_width = 24, .value_width = 40}, 3));
}

TEST(DeviceAttention, OfManyCellsInBlocks) {
    expect_full_attention(TestHeads({.cells = 3000, .queries = 208, .key_width = 16, .value_width = 16}));
}

TEST(DeviceAttention, Capped) { expect_full_attention(TestHeads({.cells = 128, .queries = 96}, 2, 20.0f)); }

TEST(DeviceAttention, WithRoundedOperands) {
    expect_full_attention(TestHeads({.cells = 256, .queries = 384}), Operands::eleven_bits);
    expect_full_attention(TestHeads({.cells = 256, .queries = 384}), Operands::halves);
}

// What the test above would not see if operands were not rounded.
TEST(DeviceAttention, RoundedOperandsAreRounded) {
    if (device_rounds()) GTEST_SKIP() << "it rounds by itself";
    const TestHeads test({.cells = 256, .queries = 384});
    std::vector<std::vector<float>> masses;
    for (const Operands operands : {Operands::as_they_are, Operands::eleven_bits, Operands::halves}) {
        const auto backend = test_backend(operands);
        HeadTensors held(*backend, sizes_of(test.problems, {}, {.kept = 8}));
        ASSERT_TRUE(held.allocate());
        ASSERT_TRUE(upload(held, test));
        ASSERT_TRUE(attend_all(held));
        masses.push_back(read(held.mass));
    }
    EXPECT_NE(masses[0], masses[1]);
    EXPECT_EQ(masses[1], masses[2]); // nothing here leaves the range of halves
}

} // namespace
} // namespace kvfold::device
