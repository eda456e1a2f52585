// Tiny models of random weights (tiny_models.py), and what must hold of a compacted sequence of any of them.
#pragma once

#include "engine/model_sequence.h"

#include <random>

namespace kvfold::testing {

inline ModelPtr tiny_model(const std::string& name) {
    const char* folder = std::getenv("KVFOLD_TINY_MODELS");
    if (folder) return load_model_file(std::string(folder) + "/" + name + ".gguf");
    ADD_FAILURE() << "KVFOLD_TINY_MODELS is not set: the folder that tiny_models.py wrote";
    return nullptr;
}

// Bytes and letters of the vocabulary, the same on every call.
inline std::vector<llama_token> random_tokens(size_t count) {
    std::mt19937 random(7);
    std::vector<llama_token> tokens(count);
    for (llama_token& token : tokens)
        token = static_cast<llama_token>(3 + random() % 340);
    return tokens;
}

// A sequence of the tiny model that the parameter names.
class TinySequence : public ::testing::TestWithParam<const char*> {
  protected:
    void read(size_t tokens) {
        model_ = tiny_model(GetParam());
        ctx_ = make_context(model_, {.n_ctx = 512});
        ASSERT_TRUE(ctx_);
        tokens_ = random_tokens(tokens);
        ASSERT_EQ(decode(ctx_.get(), tokens_, 0), 0);
        before_ = snapshot_of(ctx_.get());
    }

    ModelPtr model_;
    ContextPtr ctx_;
    std::vector<llama_token> tokens_;
    SequenceState before_;
};

inline SequenceState with_negated_values(SequenceState state, const Regions& regions) {
    for (CacheTensor& values : state.sections[0].values) {
        Matrix rows = to_float(values);
        rows.middleRows(static_cast<Index>(regions.head.size() + regions.pinned.size()), regions.folded) *=
            -1;
        values = from_float(rows, values.type, values.transposed).value();
    }
    return state;
}

// Compacts the sequence by one cell: it still gives the full cache's logits, and with its folded values
// negated it does not. tokens: of the sequence; next: what is decoded behind them.
inline void expect_full_logits_with_one_cell_less(llama_context* ctx, const std::vector<llama_token>& tokens,
                                                  const std::vector<llama_token>& next,
                                                  llama_seq_id seq_id = 0) {
    const auto end = static_cast<llama_pos>(tokens.size());
    const auto cells = static_cast<double>(snapshot_of(ctx, seq_id).sections[0].cells.size());
    const LogitRows full = forced_logits(ctx, next, end, seq_id);
    ASSERT_EQ(full.size(), next.size());
    const auto report = compact_sequence(ctx, seq_id, request_for(tokens, cells / (cells - 1)));
    ASSERT_TRUE(report) << report.error().message;
    ASSERT_EQ(report->cells_after + 1, report->cells_before);
    const double kl = mean_kl(full, forced_logits(ctx, next, end, seq_id));
    ASSERT_TRUE(write_sequence(ctx, seq_id, with_negated_values(snapshot_of(ctx, seq_id), report->regions)));
    const double broken_kl = mean_kl(full, forced_logits(ctx, next, end, seq_id));
    // Not the noise floor: one cell of about 200 is gone.
    EXPECT_LT(kl, 0.05);
    EXPECT_GT(broken_kl, 5 * kl);
}

} // namespace kvfold::testing
