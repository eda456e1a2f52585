// A managed context of the model that KVFOLD_PLAIN_MODEL names, and the program that uses it.
#pragma once

#include "base/format.h"
#include "preload/program.h"
#include "preload/real.h"
#include "support/divergence.h"
#include "support/llama_fixture.h"

#include <filesystem>

namespace kvfold::preload {

using testing::decode;
using testing::last_logits;

inline constexpr uint32_t kCells = 512;

class Managed : public ::testing::Test {
  protected:
    void SetUp() override {
        model_ = testing::load_model("KVFOLD_PLAIN_MODEL");
        ASSERT_TRUE(model_);
        tokens_ = testing::filler_tokens(model_.get(), 2000);
        manage(folding());
    }

    // Two sequences, in one cache or each in its own half.
    // recalled: cells of each head that a prompt takes out of the archive.
    void manage(const Policy& policy, bool unified = true, size_t archive_bytes = 0, size_t recalled = 0) {
        program_.reset();
        const auto tap = std::make_shared<TapPlace>();
        ctx_ = testing::make_context(model_, {.n_ctx = kCells,
                                              .n_seq_max = 2,
                                              .unified = unified,
                                              .watch = &TapPlace::callback,
                                              .watcher = tap.get()});
        ASSERT_TRUE(ctx_);
        llama_context_params params = llama_context_default_params();
        params.n_ctx = kCells;
        params.n_seq_max = 2;
        params.kv_unified = unified;
        params.n_threads = params.n_threads_batch = 1;
        auto map = probe_attention(model_.get(), params);
        ASSERT_TRUE(map) << map.error().message;
        program_.emplace(ctx_.get(), model_.get(), params, policy, archive_bytes,
                         Recalling{recalled, *std::move(map), tap, kWhateverItTakes}, archive_folder_);
        managed_ = &program_->managed();
    }

    void TearDown() override { program_.reset(); }

    static Policy folding() {
        Policy policy;
        policy.automatic = true;
        policy.method = *find_method("select"); // the cheapest that folds
        return policy;
    }

    // As a program would, through the manager. Returns llama_decode's answer.
    int feed(llama_pos first, llama_pos last, llama_seq_id seq_id = 0) {
        Batch batch(last - first);
        for (llama_pos pos = first; pos < last; ++pos)
            batch.add(tokens_[static_cast<size_t>(pos)], pos, {seq_id}, pos + 1 == last);
        return feed(batch);
    }
    int feed(const Batch& batch) { return program_->decode(batch); }

    void feed_all(llama_pos end, llama_pos first = 0) {
        constexpr llama_pos step = 64;
        for (llama_pos pos = first; pos < end; pos += step)
            ASSERT_EQ(feed(pos, std::min(end, pos + step)), 0) << "at " << pos;
    }

    Json sequence(size_t index = 0) { return managed_->state()["sequences"].at(index); }

    // Of an output of the newest batch: its logits, where it is of an earlier part, or its index in the last.
    const float* kept_logits(int32_t index) {
        return managed_->outputs([&](PartOutputs& outputs) { return outputs.find(index); });
    }
    int32_t index_in_last(int32_t index) {
        return managed_->outputs([&](const PartOutputs& outputs) { return outputs.index_in_last(index); });
    }

    void settle() { program_->settle(); }

    size_t real_cells(llama_seq_id seq_id = 0) {
        const auto state = program_->read(seq_id);
        EXPECT_TRUE(state) << state.error().message;
        return state ? state->sections.front().cells.size() : 0;
    }

    testing::ModelPtr model_;
    testing::ContextPtr ctx_;
    std::vector<llama_token> tokens_;
    std::optional<Program> program_;
    ManagedContext* managed_ = nullptr; // of program_
    std::filesystem::path archive_folder_;
};

} // namespace kvfold::preload
