// A study without a token, or with too few for a device: an error that says where, and no division by its
// size.
#include "fit/solve_layers.h"

#include "solve/solve_head.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

constexpr Index kCells = 20, kKvHeads = 2, kHeads = 4, kWidth = 32;

// Layers of random cells, from layer 5 on, each asked by its number of tokens.
struct RandomLayers {
    AttentionMap map;
    SequenceState snapshot{{{}}, {}};
    Regions regions;
    Study study;
    StudyPlan study_plan;
    SolvePlan solve_plan;
    std::vector<std::vector<llama_token>> expected;
    Adapters adapters;
    llama_context_params context = llama_context_default_params();
    ProgressFn progress;

    explicit RandomLayers(std::vector<Index> tokens) {
        KvSection& section = snapshot.sections.front();
        section.cells.resize(kCells);
        for (size_t i = 0; i < tokens.size(); ++i) {
            map.layers.push_back({.layer = 5 + static_cast<int>(i),
                                  .cache = i,
                                  .heads = kHeads,
                                  .kv_heads = kKvHeads,
                                  .key_width = kWidth,
                                  .value_width = kWidth});
            for (auto* part : {&section.keys, &section.values})
                part->push_back(
                    from_float(Matrix::Random(kCells, kKvHeads * kWidth), GGML_TYPE_F32, false).value());
            study.layers.push_back({Matrix::Random(tokens[i], kHeads * kWidth), 1});
        }
        for (uint32_t cell = 0; cell < kCells; ++cell)
            regions.region.push_back(cell);
    }

    Result<Solution> solve(SolveOn where = SolveOn::automatic) {
        RegionProblem problem{
            nullptr,  map,     snapshot, regions,  5, study_plan, solve_plan, {},
            expected, nullptr, context,  adapters, 1, 1,          progress,   *usable_kernels().front()};
        problem.solve_on = where;
        return solve_layers(problem, study, solve_plan);
    }
};

TEST(EmptyStudy, HasNoQueries) {
    const RandomLayers layer({0});
    for (Index head = 0; head < kKvHeads; ++head) {
        const Matrix queries = queries_of_head(layer.study, layer.map, 0, head, 4096);
        EXPECT_EQ(queries.rows(), 0);
        EXPECT_EQ(queries.cols(), kWidth);
    }
}

TEST(EmptyStudy, IsAnErrorThatNamesTheHead) {
    const auto solution = RandomLayers({0}).solve();
    ASSERT_FALSE(solution);
    EXPECT_EQ(solution.error().code, ErrorCode::invalid_argument);
    EXPECT_NE(solution.error().message.find("layer 5, KV head"), std::string::npos)
        << solution.error().message;
}

TEST(EmptyStudy, WithAFewTokensIsNone) {
    const auto solution = RandomLayers({3}).solve();
    ASSERT_TRUE(solution) << solution.error().message;
    EXPECT_EQ(solution->keys.front().cell_count(), 5u);
}

TEST(FewQueries, AreNotEnoughForADeviceWhichSaysForWhichLayers) {
    const auto why = [](std::vector<Index> tokens) {
        const auto solution = RandomLayers(std::move(tokens)).solve(SolveOn::device);
        return solution ? "" : solution.error().message;
    };
    EXPECT_EQ(why({8, 8}), ""); // two query heads a KV head
    EXPECT_NE(why({3, 3}).find("a KV head of layers 5 to 6: a device needs 16 queries"), std::string::npos)
        << why({3, 3});
}

TEST(FewQueries, OfOneLayerAreAnErrorThoughOthersAreSolved) {
    RandomLayers layers({20, 20, 3});
    layers.map.layers.back().softcap = 30; // so that it is solved by itself
    const auto solution = layers.solve(SolveOn::device);
    ASSERT_FALSE(solution);
    EXPECT_EQ(solution.error().code, ErrorCode::unsupported);
    EXPECT_NE(solution.error().message.find("layer 7, a KV head: a device needs"), std::string::npos)
        << solution.error().message;
}

} // namespace
} // namespace kvfold
