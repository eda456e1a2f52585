// Two sequences in one context: compacting one leaves the other byte-identical.
#include "engine/model_sequence.h"

namespace kvfold {
namespace {

using testing::ContextPtr;

class Neighbours : public ::testing::TestWithParam<bool> {};

TEST_P(Neighbours, OfACompactedSequenceStayAsTheyAre) {
    const testing::ModelPtr model = testing::load_model("KVFOLD_PLAIN_MODEL");
    const ContextPtr ctx =
        testing::make_context(model, {.n_ctx = 1024, .n_seq_max = 2, .unified = GetParam()});
    ASSERT_TRUE(ctx);
    const auto tokens = testing::filler_tokens(model.get(), 200);
    const std::vector<llama_token> second(tokens.begin() + 60, tokens.begin() + 160);
    ASSERT_EQ(testing::decode(ctx.get(), tokens, 0, /*seq_id=*/1), 0);
    ASSERT_EQ(testing::decode(ctx.get(), second, 0, /*seq_id=*/0), 0);

    for (const llama_seq_id seq_id : {1, 0}) {
        const llama_seq_id other = 1 - seq_id;
        const std::vector<uint8_t> own = testing::raw_state(ctx.get(), seq_id);
        const std::vector<uint8_t> neighbour = testing::raw_state(ctx.get(), other);
        const auto& of_sequence = seq_id == 1 ? tokens : second;
        const auto report = compact_sequence(ctx.get(), seq_id,
                                             testing::request_for(of_sequence, 4, testing::quick_method()));
        ASSERT_TRUE(report) << report.error().message;
        EXPECT_EQ(report->cells_before, of_sequence.size());
        EXPECT_EQ(testing::raw_state(ctx.get(), other), neighbour);
        EXPECT_NE(testing::raw_state(ctx.get(), seq_id), own);
    }
    for (const llama_seq_id seq_id : {0, 1}) {
        const auto end = static_cast<llama_pos>(seq_id == 1 ? tokens.size() : second.size());
        EXPECT_EQ(testing::decode(ctx.get(), {tokens[7], tokens[8]}, end, seq_id), 0);
    }
}

INSTANTIATE_TEST_SUITE_P(Caches, Neighbours, ::testing::Values(true, false),
                         [](const auto& info) { return std::string(info.param ? "unified" : "split"); });

} // namespace
} // namespace kvfold
