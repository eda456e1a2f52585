// What a budget in prefills buys on models of different shapes.
#include "method/effort.h"

#include <gtest/gtest.h>

#include <cmath>

namespace kvfold {
namespace {

// Layers like those of a transformer: heads query heads, kv_heads KV heads of width d.
struct Shape {
    double parameters;
    Index layers, heads, kv_heads, width;
};
constexpr Shape kSmall = {106e6, 30, 9, 3, 64}, kGrouped = {358e6, 24, 14, 2, 64},
                kLarge = {7.5e9, 36, 32, 8, 128};

std::vector<AttentionLayer> layers_of(const Shape& shape) {
    std::vector<AttentionLayer> layers;
    for (Index i = 0; i < shape.layers; ++i)
        layers.push_back({.layer = static_cast<int>(i),
                          .cache = static_cast<size_t>(i),
                          .heads = shape.heads,
                          .kv_heads = shape.kv_heads,
                          .key_width = shape.width,
                          .value_width = shape.width});
    return layers;
}

class Effort : public ::testing::TestWithParam<Shape> {
  protected:
    Workload work(size_t cells, size_t kept, size_t heard = 0) const {
        return {GetParam().parameters, layers_, {cells, kept}, cells, heard};
    }
    static double cost_of(const Method& method, float effort, const Workload& work) {
        const Plans plans = plans_of_effort(method, effort, work.fold.kept);
        return predict_cost(plans.study, plans.solve, work).total();
    }

    std::vector<AttentionLayer> layers_ = layers_of(GetParam());
};

TEST_P(Effort, CostsWhatItsBudgetAllowsAndNotMuchLess) {
    for (const size_t cells : {2048, 8192, 32768}) {
        for (const size_t ratio : {4, 8, 32}) {
            for (const Method* method : {&methods::fast, &methods::balanced, &methods::best}) {
                const Workload region = work(cells, cells / ratio);
                const float effort = effort_within(method->budget, *method, region);
                ASSERT_GE(effort, kLeastEffort);
                ASSERT_LE(effort, kMostEffort);
                const double cost = cost_of(*method, effort, region);
                if (effort > kLeastEffort) {
                    EXPECT_LE(cost, method->budget) << cells << " at " << ratio;
                }
                if (effort < kMostEffort) {
                    EXPECT_GT(cost_of(*method, 1.1f * effort, region), method->budget)
                        << cells << " at " << ratio;
                }
            }
        }
    }
}

TEST_P(Effort, StudiesMoreAndStepsMoreTheLargerItIs) {
    const Workload region = work(4096, 512);
    double before = 0;
    for (float effort = kLeastEffort; effort <= kMostEffort; effort *= 1.5f) {
        const double cost = cost_of(methods::best, effort, region);
        EXPECT_GT(cost, before) << effort;
        before = cost;
    }
}

TEST(Memory, ManyCellsLeaveMemoryForFewerQueries) {
    const Index most = methods::best.study.max_queries;
    const auto queries = [](size_t kept) {
        return plans_of_effort(methods::best, 2, kept).study.max_queries;
    };
    EXPECT_EQ(queries(256), most);
    EXPECT_LT(queries(4096), most);
    EXPECT_LE(static_cast<size_t>(queries(4096)) * 4096, kMostShares);
    EXPECT_EQ(queries(1 << 20), methods::refine.study.max_queries);
}

// What was heard need not be read, and its price buys more.
TEST_P(Effort, GrowsWithWhatWasHeard) {
    const float alone = effort_within(1, methods::balanced, work(2048, 256));
    const float heard = effort_within(1, methods::balanced, work(2048, 256, 768));
    EXPECT_GE(heard, alone);
    EXPECT_LE(heard, 3 * alone);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Effort, ::testing::Values(kSmall, kGrouped, kLarge));

TEST(ChosenPlans, AreAsWrittenWithoutABudget) {
    const std::vector<AttentionLayer> layers = layers_of(kSmall);
    const Workload work = {kSmall.parameters, layers, {2048, 256}, 2048, 0};
    const ChosenPlans written = choose_plans(methods::refine, work, 1),
                      chosen = choose_plans(methods::best, work, 1);
    EXPECT_EQ(written.effort, 0);
    EXPECT_EQ(written.expected.total(), 0);
    EXPECT_EQ(written.plans.solve.refine_steps, methods::refine.solve.refine_steps);
    EXPECT_EQ(chosen.effort, effort_within(methods::best.budget, methods::best, work));
    EXPECT_GT(tokens_of(chosen.plans.study, work.fold).all, tokens_of(written.plans.study, work.fold).all);
    EXPECT_GT(chosen.expected.total(), 0);
}

TEST(ChosenPlans, AreSmallerWhereSomebodyWaits) {
    const std::vector<AttentionLayer> layers = layers_of(kSmall);
    const Workload work = {kSmall.parameters, layers, {2048, 256}, 2048, 0};
    const auto study = [&](const Method& method, float share) {
        return tokens_of(choose_plans(method, work, share).plans.study, work.fold).all;
    };
    EXPECT_LT(study(methods::refine, 0.5f), study(methods::refine, 1));
    EXPECT_LT(choose_plans(methods::best, work, 0.5f).expected.total(), 0.5 * methods::best.budget);
}

// A solve on the processor takes no longer because a device prefills fast.
TEST(ChosenPlans, StayNearRefineBesideADevice) {
    std::vector<AttentionLayer> layers = layers_of(kLarge);
    const Workload work = {kLarge.parameters, layers, {8192, 1024}, 8192, 0};
    EXPECT_GT(choose_plans(methods::balanced, work, 1).effort, kMostBesideADevice);
    for (AttentionLayer& layer : layers)
        layer.on_host = false;
    const ChosenPlans chosen = choose_plans(methods::balanced, work, 1);
    EXPECT_EQ(chosen.effort, kMostBesideADevice);
    const Cost refine = predict_cost(methods::refine.study, methods::refine.solve, work);
    EXPECT_LT(chosen.expected.total(), 1.25 * refine.total());
    EXPECT_LT(chosen.expected.solve, 1.5 * refine.solve);
}

} // namespace
} // namespace kvfold
