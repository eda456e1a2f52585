#include "solve/allocate.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numeric>
#include <random>

namespace kvfold {
namespace {

using Errors = std::vector<std::vector<double>>;
constexpr std::array<Index, 4> kCells = {2, 4, 8, 16};

// The lower convex hull at t, by its definition: the lowest chord over t.
double hull_at(const std::vector<double>& errors, Index t) {
    double lowest = INFINITY;
    for (size_t a = 0; a < kCells.size(); ++a) {
        for (size_t b = a; b < kCells.size(); ++b) {
            if (kCells[a] > t || kCells[b] < t) continue;
            const double share = a == b ? 0 : double(t - kCells[a]) / double(kCells[b] - kCells[a]);
            lowest = std::min(lowest, errors[a] + share * (errors[b] - errors[a]));
        }
    }
    return lowest;
}

double total_error(const Errors& errors, const std::vector<Index>& budgets) {
    double sum = 0;
    for (size_t head = 0; head < errors.size(); ++head)
        sum += hull_at(errors[head], budgets[head]);
    return sum;
}

// The lowest sum of all allocations, each of them tried.
double lowest_error(const Errors& errors, size_t head, Index left) {
    if (head == errors.size()) return left == 0 ? 0 : INFINITY;
    double lowest = INFINITY;
    for (Index t = kCells.front(); t <= std::min(left, kCells.back()); ++t)
        lowest = std::min(lowest, hull_at(errors[head], t) + lowest_error(errors, head + 1, left - t));
    return lowest;
}

Errors random_curves(size_t heads, uint32_t seed, bool falling) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> uniform(0, 1);
    Errors errors(heads, std::vector<double>(kCells.size()));
    for (auto& curve : errors) {
        double error = 1 + 4 * uniform(random);
        for (double& point : curve)
            point = falling ? error *= uniform(random) : 5 * uniform(random);
    }
    return errors;
}

TEST(AllocateCells, ReachesTheLowestErrorOfAllAllocations) {
    for (const uint32_t seed : {1u, 2u, 3u, 4u, 5u}) {
        const Errors errors = random_curves(4, seed, /*falling=*/true);
        for (const Index total : {8, 9, 20, 37, 64}) {
            const auto budgets = allocate_cells(kCells, errors, total);
            EXPECT_EQ(std::accumulate(budgets.begin(), budgets.end(), Index{0}), total);
            for (const Index budget : budgets)
                EXPECT_TRUE(budget >= kCells.front() && budget <= kCells.back());
            EXPECT_NEAR(total_error(errors, budgets), lowest_error(errors, 0, total), 1e-12);
        }
        // The broken twins: as many cells for each, and for the heads in another order.
        auto budgets = allocate_cells(kCells, errors, 32);
        const double best = total_error(errors, budgets);
        EXPECT_LT(best, 0.99 * total_error(errors, std::vector<Index>(4, 8)));
        std::rotate(budgets.begin(), budgets.begin() + 1, budgets.end());
        EXPECT_LT(best, 0.99 * total_error(errors, budgets));
    }
}

TEST(AllocateCells, SpendsTheBudgetEvenWhereMoreCellsMeasuredWorse) {
    for (const uint32_t seed : {1u, 2u, 3u}) {
        const Errors errors = random_curves(3, seed, /*falling=*/false);
        for (const Index total : {6, 25, 48}) {
            const auto budgets = allocate_cells(kCells, errors, total);
            EXPECT_EQ(std::accumulate(budgets.begin(), budgets.end(), Index{0}), total);
        }
    }
}

TEST(AllocateCells, EqualHeadsAreServedInTheirOrder) {
    const Errors errors(3, {8, 4, 2, 1});
    EXPECT_EQ(allocate_cells(kCells, errors, 3 * 2 + 2 + 1), (std::vector<Index>{4, 3, 2}));
    EXPECT_EQ(allocate_cells(kCells, errors, 3 * 16), (std::vector<Index>{16, 16, 16}));
}

} // namespace
} // namespace kvfold
