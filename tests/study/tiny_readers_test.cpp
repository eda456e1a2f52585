// Two layers that read one cache: whose query stands in which row.
#include "study/scratch.h"
#include "support/tiny_model.h"

namespace kvfold {
namespace {

constexpr size_t kTokens = 40, kStudied = 24;

// The queries of the tokens that follow, read in pieces of so many tokens.
Study study_in_pieces(llama_model* model, const AttentionMap& map, const SequenceState& snapshot,
                      const std::vector<llama_token>& tokens, size_t piece) {
    QueryTap tap(map.layers, static_cast<Index>(tokens.size()));
    const ScratchParams params{testing::one_thread(), 1, static_cast<uint32_t>(tokens.size())};
    auto scratch = Scratch::open(model, map, snapshot, params, &tap, {});
    EXPECT_TRUE(scratch);
    for (size_t done = 0; done < tokens.size(); done += piece) {
        const auto pos = scratch->end() + static_cast<llama_pos>(done);
        EXPECT_TRUE(scratch->prefill(std::span(tokens).subspan(done, piece), pos));
    }
    return tap.take();
}

// The largest difference, by the largest row.
float largest_difference(const Matrix& a, const Matrix& b) {
    return (a - b).rowwise().norm().maxCoeff() / a.rowwise().norm().maxCoeff();
}

// Row [reader][token] in the place of [token][reader].
Matrix reader_by_reader(const LayerQueries& layer) {
    Matrix rows = layer.rows;
    const Index tokens = rows.rows() / layer.readers;
    for (Index row = 0; row < rows.rows(); ++row)
        rows.row(row) = layer.rows.row(row % tokens * layer.readers + row / tokens);
    return rows;
}

TEST(SharedCache, RowsAreTokenByTokenHoweverTheTokensAreEvaluated) {
    const auto model = testing::tiny_model("gemma3n");
    const auto ctx = testing::make_context(model, {.n_ctx = 256});
    ASSERT_TRUE(ctx);
    const auto tokens = testing::random_tokens(kTokens + kStudied);
    ASSERT_EQ(testing::decode(ctx.get(), {tokens.begin(), tokens.begin() + kTokens}, 0), 0);
    const SequenceState snapshot = testing::snapshot_of(ctx.get());
    auto map = probe_attention(model.get(), testing::one_thread());
    ASSERT_TRUE(map) << map.error().message;
    // The shared cache is a window's, which the probe leaves out and the tap can read all the same.
    constexpr int kSharedLayer = 18;
    map->layers.push_back(map->layers.front());
    map->layers.back().layer = kSharedLayer;
    map->layers.back().readers = 2;
    const std::vector<llama_token> studied(tokens.begin() + kTokens, tokens.end());
    const auto study = [&](size_t piece) {
        return study_in_pieces(model.get(), *map, snapshot, studied, piece);
    };
    const Study at_once = study(kStudied), in_two = study(kStudied / 2), one_by_one = study(1);
    for (size_t i = 0; i < map->layers.size(); ++i) {
        const LayerQueries& layer = at_once.layers[i];
        ASSERT_EQ(layer.rows.rows(), static_cast<Index>(kStudied) * layer.readers);
        // Batches of other sizes sum in another order.
        constexpr float kRounding = 0.02f;
        EXPECT_LT(largest_difference(layer.rows, in_two.layers[i].rows), kRounding);
        EXPECT_LT(largest_difference(layer.rows, one_by_one.layers[i].rows), kRounding);
        if (layer.readers == 1) continue;
        // The twin: rows reader by reader are others.
        EXPECT_GT(largest_difference(reader_by_reader(layer), one_by_one.layers[i].rows), 10 * kRounding);
    }
}

} // namespace
} // namespace kvfold
