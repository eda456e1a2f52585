// Snapshot and swap on real models, in every cache layout that llama.cpp has for them.
#include "base/file.h"
#include "state/live_sequence.h"
#include "state/slot_file.h"
#include "support/divergence.h"
#include "support/llama_fixture.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <random>
#include <unistd.h>

namespace kvfold {
namespace {

using testing::ContextOptions;
using testing::ContextPtr;
using testing::ModelPtr;

struct Setup {
    const char* name;
    const char* model;
    ContextOptions options;
};
[[maybe_unused]] void PrintTo(const Setup& setup, std::ostream* out) { *out << setup.name; }

ContextOptions cache(bool flash_attention, ggml_type type_k, ggml_type type_v) {
    ContextOptions options;
    options.flash_attention = flash_attention;
    options.type_k = type_k;
    options.type_v = type_v;
    return options;
}

class LiveSequence : public ::testing::TestWithParam<Setup> {
  protected:
    void SetUp() override {
        model_ = testing::load_model(GetParam().model);
        ASSERT_TRUE(model_);
        ctx_ = testing::make_context(model_, GetParam().options);
        ASSERT_TRUE(ctx_);
        windowed_ = llama_model_n_swa(model_.get()) > 0;
        prompt_ = windowed_ ? 600 : 200; // above the window of Gemma 3 (512)
        tokens_ = testing::filler_tokens(model_.get(), prompt_ + 1);
        next_ = tokens_.back();
        tokens_.pop_back();
        ASSERT_EQ(testing::decode(ctx_.get(), tokens_, 0), 0);
        state_ = snapshot();
        ASSERT_FALSE(state_.sections.empty());
    }

    SequenceState snapshot() {
        auto state = read_sequence(ctx_.get(), 0);
        EXPECT_TRUE(state) << state.error().message;
        return state ? *std::move(state) : SequenceState{};
    }

    // Logits of the next token, which is removed again; none when that fails.
    std::vector<float> next_logits() {
        const auto end = static_cast<llama_pos>(prompt_);
        if (testing::decode(ctx_.get(), {next_}, end) != 0) return {};
        std::vector<float> logits = testing::last_logits(ctx_.get());
        llama_memory_seq_rm(llama_get_memory(ctx_.get()), 0, end, -1);
        return logits;
    }

    // The order of the cells is the order of summation, and a window's cells are put back at other places:
    // about 0.003 is the noise of f16.
    static void expect_same_prediction(const std::vector<float>& before, const std::vector<float>& after) {
        ASSERT_EQ(after.size(), before.size());
        EXPECT_LT(testing::kl_divergence(before, after), 0.05);
    }

    // The same state again: bit for bit where its cells are put back at their places.
    void expect_unchanged_prediction(const std::vector<float>& before,
                                     const std::vector<float>& after) const {
        if (!windowed_) {
            EXPECT_EQ(after, before);
        }
        expect_same_prediction(before, after);
    }

    void expect_refused_without_a_trace(const SequenceState& state, const char* what) {
        SCOPED_TRACE(what);
        const std::vector<uint8_t> before = testing::raw_state(ctx_.get());
        const std::vector<float> logits = next_logits();
        const Status status = write_sequence(ctx_.get(), 0, state);
        ASSERT_FALSE(status);
        EXPECT_EQ(status.error().code, ErrorCode::llama);
        EXPECT_NE(status.error().message.find("holds what it held before"), std::string::npos)
            << status.error().message;
        EXPECT_EQ(testing::raw_state(ctx_.get()), before);
        expect_unchanged_prediction(logits, next_logits());
    }

    ModelPtr model_;
    ContextPtr ctx_;
    std::vector<llama_token> tokens_; // what the sequence holds
    llama_token next_ = 0;
    bool windowed_ = false;
    uint32_t prompt_ = 0;
    SequenceState state_;
};

std::vector<uint32_t> shuffled(size_t count) {
    std::vector<uint32_t> order(count);
    std::iota(order.begin(), order.end(), 0u);
    std::shuffle(order.begin(), order.end(), std::mt19937(3));
    return order;
}

// Few tests with several steps each: computing the prompt takes most of the time.
TEST_P(LiveSequence, SnapshotIsExactAndLeavesTheContextAlone) {
    const std::vector<uint8_t> raw = testing::raw_state(ctx_.get());
    std::vector<uint8_t> encoded = encode_sequence(state_);
    ASSERT_EQ(encoded.size() + 8, raw.size());
    EXPECT_TRUE(std::equal(encoded.begin(), encoded.end(), raw.begin() + 8));
    encoded.back() ^= 1; // broken twin
    EXPECT_FALSE(std::equal(encoded.begin(), encoded.end(), raw.begin() + 8));

    const ContextPtr untouched = testing::make_context(model_, GetParam().options);
    ASSERT_EQ(testing::decode(untouched.get(), tokens_, 0), 0);
    ASSERT_EQ(testing::decode(untouched.get(), {next_}, static_cast<llama_pos>(prompt_)), 0);
    EXPECT_EQ(next_logits(), testing::last_logits(untouched.get()));
}

TEST_P(LiveSequence, SnapshotHasTheCachesOfTheModel) {
    ASSERT_EQ(state_.sections.size(), windowed_ ? 2u : 1u);
    EXPECT_TRUE(state_.recurrent.empty());
    size_t layers = 0;
    for (const KvSection& section : state_.sections) {
        layers += section.keys.size();
        EXPECT_EQ(section.keys.size(), section.values.size());
        EXPECT_FALSE(section.has_extra);
        for (const CacheTensor& keys : section.keys)
            EXPECT_EQ(keys.type, GetParam().options.type_k);
        for (const CacheTensor& values : section.values) {
            EXPECT_EQ(values.type, GetParam().options.type_v);
            EXPECT_EQ(values.transposed, !GetParam().options.flash_attention);
            EXPECT_EQ(values.cell_count(), section.cells.size());
            EXPECT_TRUE(to_float(values).allFinite());
        }
    }
    EXPECT_EQ(layers, static_cast<size_t>(llama_model_n_layer(model_.get())));
    EXPECT_EQ(state_.sections[0].cells.size(), prompt_);
    EXPECT_EQ(state_.sections[0].cells.back().pos, static_cast<int32_t>(prompt_ - 1));
    if (windowed_) {
        EXPECT_EQ(state_.sections[1].cells.size(), static_cast<size_t>(llama_model_n_swa(model_.get())));
    }
}

TEST_P(LiveSequence, SwapsAreTakenAndDecodingGoesOn) {
    const std::vector<uint8_t> raw = testing::raw_state(ctx_.get());
    const std::vector<float> before = next_logits();
    Status status = write_sequence(ctx_.get(), 0, state_);
    ASSERT_TRUE(status) << status.error().message;
    EXPECT_EQ(testing::raw_state(ctx_.get()), raw);
    expect_unchanged_prediction(before, next_logits());

    SequenceState permuted = state_;
    permuted.sections[0] = take_cells(state_.sections[0], shuffled(prompt_));
    status = write_sequence(ctx_.get(), 0, permuted);
    ASSERT_TRUE(status) << status.error().message;
    EXPECT_EQ(encode_sequence(snapshot()), encode_sequence(permuted));
    expect_same_prediction(before, next_logits());

    std::vector<uint32_t>
        every_fifth; // with the last cell: llama_decode wants positions to go on without a gap
    for (uint32_t i = 4; i < prompt_; i += 5)
        every_fifth.push_back(i);
    SequenceState thinned = state_;
    thinned.sections[0] = take_cells(state_.sections[0], every_fifth);
    ASSERT_TRUE(write_sequence(ctx_.get(), 0, thinned));
    EXPECT_EQ(encode_sequence(snapshot()), encode_sequence(thinned));
    const std::vector<float> from_a_fifth = next_logits();
    ASSERT_FALSE(from_a_fifth.empty());
    // Broken twin: most of the cells are gone. Not where the window's cells still know enough.
    if (!windowed_) {
        EXPECT_GT(testing::kl_divergence(before, from_a_fifth), 0.05);
    }

    SequenceState empty = state_;
    for (KvSection& section : empty.sections)
        section.cells.clear();
    ASSERT_TRUE(write_sequence(ctx_.get(), 0, empty));
    EXPECT_EQ(llama_memory_seq_pos_max(llama_get_memory(ctx_.get()), 0), -1);
    EXPECT_EQ(read_sequence(ctx_.get(), 0).error().code, ErrorCode::invalid_argument);
}

TEST_P(LiveSequence, RefusedSwapsLeaveNoTrace) {
    SequenceState too_many = state_;
    std::vector<uint32_t> order;
    while (order.size() <= GetParam().options.n_ctx)
        order.push_back(static_cast<uint32_t>(order.size()) % prompt_);
    too_many.sections[0].cells.resize(order.size());
    too_many.sections[0] = take_cells(too_many.sections[0], order);
    expect_refused_without_a_trace(too_many, "more cells than the context has");

    // In the last section: when there are two, the first has been taken already and is put back as well.
    SequenceState other_model = state_;
    other_model.sections.back().keys.pop_back();
    other_model.sections.back().values.pop_back();
    expect_refused_without_a_trace(other_model, "fewer layers than the model has");

    SequenceState longer = state_;
    longer.recurrent = {1, 2, 3, 4};
    expect_refused_without_a_trace(longer, "a recurrent section for a model that has none");
}

TEST_P(LiveSequence, AddedCellsStandBesideTheOthers) {
    const std::vector<float> before = next_logits();
    std::vector<uint32_t> few,
        others; // the last cell stays: llama_decode wants positions to go on without a gap
    for (uint32_t i = 0; i < prompt_; ++i)
        (i % 5 == 4 ? few : others).push_back(i);
    SequenceState thinned = state_;
    thinned.sections[0] = take_cells(state_.sections[0], few);
    ASSERT_TRUE(write_sequence(ctx_.get(), 0, thinned));
    const std::vector<uint8_t> raw = testing::raw_state(ctx_.get());
    const auto spare = static_cast<llama_seq_id>(llama_max_parallel_sequences()) - 1;

    std::vector<uint32_t> too_many; // for the cells that are left
    while (too_many.size() <= GetParam().options.n_ctx - few.size())
        too_many.push_back(others[too_many.size() % others.size()]);
    const uint32_t other_version = state_.version == kFirstVersion ? kVersionWithRotation : kFirstVersion;
    for (const auto& [cells, version] :
         {std::pair(too_many, state_.version), std::pair(others, other_version)}) {
        const Status refused = add_cells(ctx_.get(), 0, take_cells(state_.sections[0], cells), version);
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, ErrorCode::llama);
        EXPECT_EQ(testing::raw_state(ctx_.get()), raw);
        EXPECT_EQ(llama_memory_seq_pos_max(llama_get_memory(ctx_.get()), spare), -1);
    }

    const Status added = add_cells(ctx_.get(), 0, take_cells(state_.sections[0], others), state_.version);
    ASSERT_TRUE(added) << added.error().message;
    EXPECT_EQ(llama_memory_seq_pos_max(llama_get_memory(ctx_.get()), spare), -1);
    const SequenceState now = snapshot();
    EXPECT_EQ(now.sections[0].cells.size(), prompt_);
    if (windowed_) {
        EXPECT_EQ(now.sections[1].cells.size(), state_.sections[1].cells.size());
    }
    expect_same_prediction(before, next_logits());
}

TEST_P(LiveSequence, SlotFilesGoBothWays) {
    const std::string path =
        (std::filesystem::temp_directory_path() / ("kvfold-live-" + std::to_string(getpid()))).string();
    ASSERT_GT(llama_state_seq_save_file(ctx_.get(), path.c_str(), 0, tokens_.data(), tokens_.size()), 0u);
    const auto bytes = read_file(path);
    ASSERT_TRUE(bytes) << bytes.error().message;
    auto slot = read_slot_file(path);
    ASSERT_TRUE(slot) << slot.error().message;
    EXPECT_EQ(slot->text.tokens, tokens_);
    EXPECT_EQ(encode_sequence(slot->state), encode_sequence(state_));
    EXPECT_EQ(encode_slot(*slot), *bytes);

    slot->state.sections[0] = take_cells(slot->state.sections[0], shuffled(100));
    ASSERT_TRUE(write_slot_file(path, *slot));
    std::vector<llama_token> tokens(prompt_);
    size_t token_count = 0;
    EXPECT_EQ(
        llama_state_seq_load_file(ctx_.get(), path.c_str(), 0, tokens.data(), tokens.size(), &token_count),
        std::filesystem::file_size(path));
    EXPECT_EQ(token_count, prompt_);
    EXPECT_EQ(encode_sequence(snapshot()), encode_sequence(slot->state));
    std::filesystem::remove(path);
}

INSTANTIATE_TEST_SUITE_P(
    Caches, LiveSequence,
    ::testing::Values(
        Setup{"smol_flash_f16", "KVFOLD_PLAIN_MODEL", cache(true, GGML_TYPE_F16, GGML_TYPE_F16)},
        Setup{"smol_plain_f16", "KVFOLD_PLAIN_MODEL", cache(false, GGML_TYPE_F16, GGML_TYPE_F16)},
        Setup{"smol_flash_q8_0", "KVFOLD_PLAIN_MODEL", cache(true, GGML_TYPE_Q8_0, GGML_TYPE_Q8_0)},
        Setup{"smol_plain_q8_0_keys", "KVFOLD_PLAIN_MODEL", cache(false, GGML_TYPE_Q8_0, GGML_TYPE_F16)},
        Setup{"gemma_flash_f16", "KVFOLD_WINDOW_MODEL", cache(true, GGML_TYPE_F16, GGML_TYPE_F16)},
        Setup{"gemma_plain_f16", "KVFOLD_WINDOW_MODEL", cache(false, GGML_TYPE_F16, GGML_TYPE_F16)},
        Setup{"gemma_flash_q8_0", "KVFOLD_WINDOW_MODEL", cache(true, GGML_TYPE_Q8_0, GGML_TYPE_Q8_0)},
        Setup{"gemma_plain_q8_0_keys", "KVFOLD_WINDOW_MODEL", cache(false, GGML_TYPE_Q8_0, GGML_TYPE_F16)}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(LiveSequences, OfASplitCacheLieInTheirStreams) {
    const ModelPtr model = testing::load_model("KVFOLD_PLAIN_MODEL");
    const ContextPtr ctx = testing::make_context(model, {.n_ctx = 512, .n_seq_max = 2, .unified = false});
    ASSERT_TRUE(ctx);
    ASSERT_EQ(testing::decode(ctx.get(), testing::filler_tokens(model.get(), 50), 0, 1), 0);
    const auto state = read_sequence(ctx.get(), 1);
    ASSERT_TRUE(state) << state.error().message;
    EXPECT_EQ(state->sections[0].streams, 2u);
    EXPECT_EQ(state->sections[0].stream, 1u);
    ASSERT_TRUE(write_sequence(ctx.get(), 0, *state)); // a copy for the other sequence
    const auto copy = read_sequence(ctx.get(), 0);
    ASSERT_TRUE(copy) << copy.error().message;
    EXPECT_EQ(copy->sections[0].stream, 0u);
    EXPECT_EQ(copy->sections[0].keys.back().bytes, state->sections[0].keys.back().bytes);
    EXPECT_EQ(encode_sequence(*read_sequence(ctx.get(), 1)), encode_sequence(*state));
}

TEST(LiveSequences, OfASharedCacheDoNotDisturbEachOther) {
    const ModelPtr model = testing::load_model("KVFOLD_PLAIN_MODEL");
    const ContextPtr ctx = testing::make_context(model, {.n_ctx = 256, .n_seq_max = 2});
    ASSERT_TRUE(ctx);
    ASSERT_EQ(testing::decode(ctx.get(), testing::filler_tokens(model.get(), 60), 0, 0), 0);
    ASSERT_EQ(testing::decode(ctx.get(), testing::filler_tokens(model.get(), 40), 0, 1), 0);
    const std::vector<uint8_t> other = testing::raw_state(ctx.get(), 1);
    auto state = read_sequence(ctx.get(), 0);
    ASSERT_TRUE(state) << state.error().message;
    state->sections[0] = take_cells(state->sections[0], shuffled(20));
    ASSERT_TRUE(write_sequence(ctx.get(), 0, *state));
    EXPECT_EQ(encode_sequence(*read_sequence(ctx.get(), 0)), encode_sequence(*state));
    EXPECT_EQ(testing::raw_state(ctx.get(), 1), other);
}

TEST(LiveSequences, ThatAreEmptyOrMissingAreInvalidArguments) {
    const ModelPtr model = testing::load_model("KVFOLD_PLAIN_MODEL");
    const ContextPtr ctx = testing::make_context(model, {.n_ctx = 256, .n_seq_max = 2});
    ASSERT_TRUE(ctx);
    for (const llama_seq_id seq_id : {-1, 0, 1, 2, 1 << 30}) {
        EXPECT_EQ(read_sequence(ctx.get(), seq_id).error().code, ErrorCode::invalid_argument) << seq_id;
        if (seq_id < 0 || seq_id > 1) {
            EXPECT_EQ(write_sequence(ctx.get(), seq_id, {}).error().code, ErrorCode::invalid_argument)
                << seq_id;
        }
    }
    EXPECT_EQ(read_sequence(nullptr, 0).error().code, ErrorCode::invalid_argument);
}

TEST(LiveSequences, ThatAreEmptyTakeAStateOrStayEmpty) {
    const ModelPtr model = testing::load_model("KVFOLD_PLAIN_MODEL");
    const ContextPtr ctx = testing::make_context(model, {.n_ctx = 256, .n_seq_max = 2});
    ASSERT_TRUE(ctx);
    ASSERT_EQ(testing::decode(ctx.get(), testing::filler_tokens(model.get(), 100), 0, 0), 0);
    auto state = read_sequence(ctx.get(), 0);
    ASSERT_TRUE(state) << state.error().message;
    ASSERT_TRUE(write_sequence(ctx.get(), 1, *state));
    const auto copy = read_sequence(ctx.get(), 1);
    ASSERT_TRUE(copy) << copy.error().message;
    EXPECT_EQ(copy->sections[0].values[0].bytes, state->sections[0].values[0].bytes);

    ASSERT_TRUE(llama_memory_seq_rm(llama_get_memory(ctx.get()), 1, -1, -1));
    const std::vector<uint8_t> empty = testing::raw_state(ctx.get(), 1);
    state->sections[0].values[2].width /= 2;
    EXPECT_FALSE(write_sequence(ctx.get(), 1, *state));
    EXPECT_EQ(testing::raw_state(ctx.get(), 1), empty);
    EXPECT_EQ(encode_sequence(*read_sequence(ctx.get(), 0)).size() + 8,
              testing::raw_state(ctx.get(), 0).size());
}

} // namespace
} // namespace kvfold
