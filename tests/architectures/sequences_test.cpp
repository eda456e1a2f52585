// Sequences as servers leave them: sharing cells with others, with gaps, shifted; in unified and split
// caches.
#include "support/tiny_model.h"

namespace kvfold {
namespace {

using testing::ContextPtr;

constexpr size_t kText = 200, kNext = 8;

struct Cache {
    const char* name;
    const char* model;
    bool unified;
};
[[maybe_unused]] void PrintTo(const Cache& cache, std::ostream* out) { *out << cache.name; }

class Sequences : public ::testing::TestWithParam<Cache> {
  protected:
    void SetUp() override {
        model_ = testing::tiny_model(GetParam().model);
        ASSERT_TRUE(model_);
        tokens_ = testing::random_tokens(kText + kNext);
        next_.assign(tokens_.begin() + kText, tokens_.end());
        tokens_.resize(kText);
        ctx_ = filled_context();
    }

    // Sequence 0 holds the tokens.
    ContextPtr filled_context() const {
        ContextPtr ctx =
            testing::make_context(model_, {.n_ctx = 2048, .n_seq_max = 2, .unified = GetParam().unified});
        EXPECT_EQ(testing::decode(ctx.get(), tokens_, 0), 0);
        return ctx;
    }

    llama_memory_t memory() const { return llama_get_memory(ctx_.get()); }

    // llama.cpp carries out copies and shifts at the next decode.
    void decode_one_more(llama_seq_id seq_id) {
        ASSERT_EQ(testing::decode(ctx_.get(), {next_[0]}, static_cast<llama_pos>(tokens_.size()), seq_id), 0);
    }

    testing::ModelPtr model_;
    ContextPtr ctx_;
    std::vector<llama_token> tokens_, next_;
};

TEST_P(Sequences, ThatShareCellsAreCompactedEachForItself) {
    llama_memory_seq_cp(memory(), 0, 1, -1, -1);
    for (const llama_seq_id seq_id : {0, 1})
        decode_one_more(seq_id);
    tokens_.push_back(next_[0]);
    const ContextPtr alone = testing::make_context(model_, {.n_ctx = 2048});
    ASSERT_EQ(testing::decode(alone.get(), {tokens_.begin(), tokens_.end() - 1}, 0), 0);
    ASSERT_EQ(testing::decode(alone.get(), {tokens_.back()}, kText), 0);
    ASSERT_TRUE(compact_sequence(alone.get(), 0, testing::request_for(tokens_, 4)));
    const KvSection expected = testing::snapshot_of(alone.get()).sections[0];

    for (const llama_seq_id seq_id : {1, 0}) {
        const std::vector<uint8_t> other = testing::raw_state(ctx_.get(), 1 - seq_id);
        const auto report = compact_sequence(ctx_.get(), seq_id, testing::request_for(tokens_, 4));
        ASSERT_TRUE(report) << report.error().message;
        EXPECT_EQ(testing::raw_state(ctx_.get(), 1 - seq_id), other);
        const KvSection actual = testing::snapshot_of(ctx_.get(), seq_id).sections[0];
        ASSERT_EQ(actual.cells.size(), expected.cells.size());
        for (size_t layer = 0; layer < expected.keys.size(); ++layer) {
            EXPECT_EQ(actual.keys[layer].bytes, expected.keys[layer].bytes);
            EXPECT_EQ(actual.values[layer].bytes, expected.values[layer].bytes);
        }
    }
    for (const llama_seq_id seq_id : {0, 1})
        EXPECT_EQ(testing::decode(ctx_.get(), {next_[1]}, kText + 1, seq_id), 0);
}

TEST_P(Sequences, WithAGapGiveTheFullLogits) {
    constexpr llama_pos kFrom = 60, kTo = 80;
    if (!llama_memory_seq_rm(memory(), 0, kFrom, kTo)) {
        EXPECT_TRUE(
            llama_model_is_hybrid(model_.get())); // a recurrent state forgets nothing that lies amid it
        return;
    }
    std::fill(tokens_.begin() + kFrom, tokens_.begin() + kTo, LLAMA_TOKEN_NULL);
    ASSERT_EQ(testing::snapshot_of(ctx_.get()).sections[0].cells.size(), kText - (kTo - kFrom));
    testing::expect_full_logits_with_one_cell_less(ctx_.get(), tokens_, next_);
}

TEST_P(Sequences, ThatWereShiftedGiveTheFullLogits) {
    constexpr llama_pos kFrom = 4, kTo = 50; // as llama.cpp's programs do when a context is full
    if (!llama_memory_can_shift(memory()) || !llama_memory_seq_rm(memory(), 0, kFrom, kTo)) {
        EXPECT_TRUE(llama_model_is_hybrid(model_.get()) || GetParam().model == std::string("qwen2vl"));
        return;
    }
    llama_memory_seq_add(memory(), 0, kTo, -1, kFrom - kTo);
    tokens_.erase(tokens_.begin() + kFrom, tokens_.begin() + kTo);
    decode_one_more(0);
    tokens_.push_back(next_[0]);
    testing::expect_full_logits_with_one_cell_less(ctx_.get(), tokens_, {next_.begin() + 1, next_.end()});
}

INSTANTIATE_TEST_SUITE_P(
    Caches, Sequences,
    ::testing::Values(Cache{"mha_unified", "mha", true}, Cache{"mha_split", "mha", false},
                      Cache{"gemma3_unified", "gemma3", true}, Cache{"gemma3_split", "gemma3", false},
                      Cache{"gpt_oss_unified", "gpt_oss", true}, Cache{"gpt_oss_split", "gpt_oss", false},
                      Cache{"qwen2vl_unified", "qwen2vl", true}, Cache{"qwen2vl_split", "qwen2vl", false},
                      Cache{"granite_hybrid_unified", "granite_hybrid", true},
                      Cache{"granite_hybrid_split", "granite_hybrid", false}),
    [](const auto& info) { return std::string(info.param.name); });

} // namespace
} // namespace kvfold
