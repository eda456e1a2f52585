// A study without a token: an error, and no division by its size.
#include "fit/solve_layers.h"

#include "solve/solve_head.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

constexpr Index kCells = 20, kKvHeads = 2, kHeads = 4, kWidth = 32;

// A layer of random cells that is asked by `tokens` tokens.
struct OneLayer {
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

    explicit OneLayer(Index tokens) {
        map.layers = {
            {.layer = 5, .heads = kHeads, .kv_heads = kKvHeads, .key_width = kWidth, .value_width = kWidth}};
        KvSection& section = snapshot.sections.front();
        section.cells.resize(kCells);
        for (auto* part : {&section.keys, &section.values})
            part->push_back(
                from_float(Matrix::Random(kCells, kKvHeads * kWidth), GGML_TYPE_F32, false).value());
        for (uint32_t cell = 0; cell < kCells; ++cell)
            regions.region.push_back(cell);
        study.layers.push_back({Matrix::Random(tokens, kHeads * kWidth), 1});
    }

    Result<Solution> solve() {
        const RegionProblem problem{
            nullptr,  map,     snapshot, regions,  5, study_plan, solve_plan, {},
            expected, nullptr, context,  adapters, 1, 2,          progress,   *usable_kernels().front()};
        return solve_layers(problem, study, solve_plan);
    }
};

TEST(EmptyStudy, HasNoQueries) {
    const OneLayer layer(0);
    for (Index head = 0; head < kKvHeads; ++head) {
        const Matrix queries = queries_of_head(layer.study, layer.map, 0, head, 4096);
        EXPECT_EQ(queries.rows(), 0);
        EXPECT_EQ(queries.cols(), kWidth);
    }
}

TEST(EmptyStudy, IsAnErrorThatNamesTheHead) {
    const auto solution = OneLayer(0).solve();
    ASSERT_FALSE(solution);
    EXPECT_EQ(solution.error().code, ErrorCode::invalid_argument);
    EXPECT_NE(solution.error().message.find("layer 5, KV head"), std::string::npos)
        << solution.error().message;
}

TEST(EmptyStudy, WithAFewTokensIsNone) {
    const auto solution = OneLayer(3).solve();
    ASSERT_TRUE(solution) << solution.error().message;
    EXPECT_EQ(solution->keys.front().cell_count(), 5u);
}

} // namespace
} // namespace kvfold
