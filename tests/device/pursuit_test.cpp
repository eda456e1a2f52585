#include "device/pursuit.h"

#include "heads.h"
#include "solve/omp.h"
#include "solve/select.h"

#include <algorithm>

namespace kvfold::device {
namespace {

// The kept cells of each head, on the device and by the processor's pursuit.
struct Pursued {
    std::vector<std::vector<uint32_t>> cells, wanted;
};

Pursued pursue_both(const TestHeads& test, Index kept, float pursued, Operands operands) {
    const auto backend = test_backend(operands);
    const SolvePlan plan{.pursued = pursued};
    const auto solved = solve(*backend, test, plan, {.kept = kept});
    EXPECT_TRUE(solved) << solved.error().message;
    Pursued both;
    for (size_t i = 0; i < test.problems.size(); ++i) {
        both.cells.push_back(solved.value()[i].kept);
        both.wanted.push_back(solve_head(test.problems[i], plan, {.kept = kept})->kept);
    }
    return both;
}

double shared(const std::vector<uint32_t>& a, const std::vector<uint32_t>& b) {
    std::vector<uint32_t> both;
    std::ranges::set_intersection(a, b, std::back_inserter(both));
    return static_cast<double>(both.size()) / static_cast<double>(a.size());
}

TEST(DevicePursuit, TakesTheCellsOfTheProcessor) {
    const TestHeads test({.cells = 512, .queries = 640}, 3);
    for (const float share : {1.0f, 0.5f, 0.25f}) {
        const Pursued both = pursue_both(test, 64, share, Operands::as_they_are);
        for (size_t i = 0; i < both.cells.size(); ++i)
            EXPECT_GE(shared(both.cells[i], both.wanted[i]), 0.95) << share;
    }
}

// Pinned cells come in blocks, and a pool is larger than a block of them.
TEST(DevicePursuit, OfManyCells) {
    const Pursued both =
        pursue_both(TestHeads({.cells = 1024, .queries = 640, .key_width = 16, .value_width = 16}), 400,
                    0.25f, Operands::as_they_are);
    for (size_t i = 0; i < both.cells.size(); ++i)
        EXPECT_GE(shared(both.cells[i], both.wanted[i]), 0.95);
}

TEST(DevicePursuit, WithRoundedOperandsTakesNearlyTheSame) {
    const Pursued both = pursue_both(TestHeads({.cells = 512, .queries = 640}), 64, 1, Operands::eleven_bits);
    for (size_t i = 0; i < both.cells.size(); ++i) {
        EXPECT_GE(shared(both.cells[i], both.wanted[i]), 0.75);
        EXPECT_TRUE(std::ranges::adjacent_find(both.cells[i], std::ranges::greater_equal()) ==
                    both.cells[i].end());
    }
}

} // namespace
} // namespace kvfold::device
