// The whole line, in the cache layouts that llama.cpp has for them.
#include "engine/model_sequence.h"
#include "support/positions.h"

#include <numeric>

namespace kvfold {
namespace {

using testing::ContextPtr;
using Tokens = std::vector<llama_token>;

struct Setup {
    const char* name;
    const char* model;
    size_t tokens;
    testing::ContextOptions options;
};
[[maybe_unused]] void PrintTo(const Setup& setup, std::ostream* out) { *out << setup.name; }

void expect_sane(const CompactReport& report, const SequenceState& before, const SequenceState& after) {
    const size_t cells = before.sections[0].cells.size();
    EXPECT_EQ(report.cells_before, cells);
    EXPECT_EQ(report.cells_after, static_cast<size_t>(std::llround(static_cast<double>(cells) / 4)));
    EXPECT_EQ(report.cells_after, report.regions.cells_after());
    EXPECT_EQ(report.cells_after, after.sections[0].cells.size());
    EXPECT_EQ(report.bytes_before, encode_sequence(before).size() + 8); // the memory form's header
    EXPECT_EQ(report.bytes_after, encode_sequence(after).size() + 8);
    EXPECT_LT(report.bytes_after, report.bytes_before);
    EXPECT_GT(report.study_tokens, 0);
    for (const double seconds : {report.snapshot_s, report.study_s, report.solve_s, report.swap_s})
        EXPECT_GE(seconds, 0);

    const size_t layers = before.sections[0].keys.size();
    ASSERT_FALSE(report.heads.empty());
    EXPECT_EQ(report.heads.size() % layers, 0u);
    for (const HeadReport& head : report.heads) {
        EXPECT_EQ(head.kept.size(), report.regions.folded);
        EXPECT_TRUE(std::is_sorted(head.kept.begin(), head.kept.end()));
        EXPECT_LT(head.kept.back(), report.regions.region.size());
        for (const float figure : {head.absorb_residual, head.output_error, head.mass_error}) {
            EXPECT_TRUE(std::isfinite(figure));
            EXPECT_GE(figure, 0);
        }
        EXPECT_LT(head.output_error, 1) << "layer " << head.layer; // 1 is what no cells at all would give
    }
}

// Bytes of the cells that stay: the first and last ones of the sequence.
std::vector<std::vector<uint8_t>> head_and_tail(const KvSection& section, size_t head, size_t tail) {
    std::vector<uint32_t> kept(head + tail);
    std::iota(kept.begin(), kept.end(), 0u);
    for (size_t i = head; i < kept.size(); ++i)
        kept[i] += static_cast<uint32_t>(section.cells.size() - kept.size());
    std::vector<std::vector<uint8_t>> bytes;
    for (const auto* tensors : {&section.keys, &section.values}) {
        for (const CacheTensor& tensor : *tensors)
            bytes.push_back(take_cells(tensor, kept).bytes);
    }
    return bytes;
}

std::vector<uint8_t> window_of(SequenceState state) {
    state.sections.erase(state.sections.begin());
    return encode_sequence(state);
}

class CompactSequence : public ::testing::TestWithParam<Setup> {
  protected:
    void SetUp() override {
        model_ = testing::load_model(GetParam().model);
        ASSERT_TRUE(model_);
        ctx_ = testing::make_context(model_, GetParam().options);
        ASSERT_TRUE(ctx_);
        tokens_ = testing::filler_tokens(model_.get(), GetParam().tokens + 40);
        next_.assign(tokens_.end() - 40, tokens_.end());
        tokens_.resize(GetParam().tokens);
        ASSERT_EQ(testing::decode(ctx_.get(), tokens_, 0), 0);
    }

    // Compacts to a quarter and checks all that must hold whatever the quality.
    SequenceState fold() {
        const SequenceState before = testing::snapshot_of(ctx_.get());
        const auto report =
            compact_sequence(ctx_.get(), 0, testing::request_for(tokens_, 4, testing::quick_method()));
        EXPECT_TRUE(report) << report.error().message;
        if (!report) return before;
        SequenceState after = testing::snapshot_of(ctx_.get());
        expect_sane(*report, before, after);
        const size_t head = report->regions.head.size(), tail = report->regions.tail.size();
        testing::expect_stands_together_before(tail, before.sections[0].cells.back().pos + 1,
                                               after.sections[0]);
        EXPECT_EQ(head, 4u);
        EXPECT_GT(tail, 0u);
        const auto kept = head_and_tail(before.sections[0], head, tail);
        EXPECT_EQ(kept, head_and_tail(after.sections[0], head, tail));
        EXPECT_NE(head_and_tail(before.sections[0], head, tail + 5), // broken twin: into the folded region
                  head_and_tail(after.sections[0], head, tail + 5));
        EXPECT_EQ(before.sections.size(), after.sections.size());
        EXPECT_EQ(window_of(before), window_of(after));
        return after;
    }

    testing::ModelPtr model_;
    ContextPtr ctx_;
    Tokens tokens_, next_;
};

// One test with several steps: computing the prompt takes most of the time.
TEST_P(CompactSequence, FoldsTheRegionAgainAndAgainAndLeavesTheRestAlone) {
    const auto end = static_cast<llama_pos>(tokens_.size());
    const auto full = testing::forced_logits(ctx_.get(), {next_.begin(), next_.begin() + 4}, end);
    const SequenceState once = fold();
    if (HasFailure()) return;
    EXPECT_EQ(llama_memory_seq_pos_max(llama_get_memory(ctx_.get()), 0), end - 1);

    const auto folded = testing::forced_logits(ctx_.get(), {next_.begin(), next_.begin() + 4}, end);
    ASSERT_EQ(folded.size(), 4u);
    // A smoke test: the cache makes sense. fidelity_test.cpp looks closer, on a text that deserves it.
    EXPECT_LT(testing::mean_kl(full, folded), 1.0);

    // Decoding goes on, and what was folded is folded once more with what came after it.
    ASSERT_EQ(testing::decode(ctx_.get(), next_, end), 0);
    tokens_.insert(tokens_.end(), next_.begin(), next_.end());
    const SequenceState twice = fold();
    EXPECT_EQ(twice.sections[0].cells.size(), (once.sections[0].cells.size() + next_.size() + 2) / 4);
    EXPECT_FALSE(testing::forced_logits(ctx_.get(), next_, end + 40).empty());
}

constexpr auto kF16 = GGML_TYPE_F16, kQ8 = GGML_TYPE_Q8_0;

// Sequences of twice the tiny model's window and more.
INSTANTIATE_TEST_SUITE_P(
    Caches, CompactSequence,
    ::testing::Values(Setup{"plain_flash_f16", "KVFOLD_PLAIN_MODEL", 240, {}},
                      Setup{"plain_f16", "KVFOLD_PLAIN_MODEL", 160, {.flash_attention = false}},
                      Setup{"plain_flash_q8_0", "KVFOLD_PLAIN_MODEL", 160, {.type_k = kQ8, .type_v = kQ8}},
                      Setup{"window_flash_f16", "KVFOLD_WINDOW_MODEL", 240, {}},
                      Setup{"window_q8_0_keys",
                            "KVFOLD_WINDOW_MODEL",
                            160,
                            {.flash_attention = false, .type_k = kQ8, .type_v = kF16}}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(CompactRequests, ThatMakeNoSenseAreRefusedAndLeaveTheSequenceAsItWas) {
    const testing::ModelPtr model = testing::load_model("KVFOLD_PLAIN_MODEL");
    const ContextPtr ctx = testing::make_context(model, {.n_ctx = 256, .n_seq_max = 2});
    ASSERT_TRUE(ctx);
    const Tokens tokens = testing::filler_tokens(model.get(), 120);
    ASSERT_EQ(testing::decode(ctx.get(), tokens, 0), 0);
    const std::vector<uint8_t> before = testing::raw_state(ctx.get());
    const auto refusal = [&](const CompactRequest& request, llama_seq_id seq_id = 0) {
        const auto report = compact_sequence(ctx.get(), seq_id, request);
        EXPECT_EQ(testing::raw_state(ctx.get()), before);
        if (report) return std::string("not refused");
        EXPECT_EQ(report.error().code, ErrorCode::invalid_argument) << report.error().message;
        return report.error().message;
    };
    for (const size_t count : {0u, 1u, 119u}) {
        const std::string message = refusal(testing::request_for(
            Tokens(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(count)), 4));
        EXPECT_NE(message.find("tokens"), std::string::npos) << message;
    }
    Tokens longer = tokens;
    longer.push_back(tokens[5]);
    EXPECT_NE(refusal(testing::request_for(longer, 4)).find("121 tokens"), std::string::npos);
    Tokens ends_in_an_image = tokens;
    ends_in_an_image.back() = LLAMA_TOKEN_NULL;
    EXPECT_NE(refusal(testing::request_for(ends_in_an_image, 4, methods::select)).find("method select"),
              std::string::npos);
    EXPECT_NE(refusal(testing::request_for(tokens, 0.5)).find("ratio"), std::string::npos);
    EXPECT_NE(refusal(testing::request_for(tokens, 100)).find("ratio"), std::string::npos);
    EXPECT_NE(refusal(testing::request_for(tokens, 4), 1).find("sequence 1 is empty"), std::string::npos);
    EXPECT_NE(refusal(testing::request_for(tokens, 4), 2).find("sequence 2"), std::string::npos);

    const auto report =
        compact_sequence(ctx.get(), 0, testing::request_for(tokens, 1)); // ratio 1: nothing to do
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->cells_after, 120u);
    EXPECT_EQ(testing::raw_state(ctx.get()), before);
}

TEST(Baselines, KeepCellsByteForByteAndNeedNoTokens) {
    const testing::ModelPtr model = testing::load_model("KVFOLD_PLAIN_MODEL");
    const ContextPtr ctx = testing::make_context(model, {.n_ctx = 256});
    ASSERT_TRUE(ctx);
    ASSERT_EQ(testing::decode(ctx.get(), testing::filler_tokens(model.get(), 200), 0), 0);
    const SequenceState before = testing::snapshot_of(ctx.get());
    for (const Method* method : {&methods::keep_last, &methods::keep_first, &methods::keep_random}) {
        ASSERT_TRUE(write_sequence(ctx.get(), 0, before));
        const auto report = compact_sequence(ctx.get(), 0, testing::request_for({}, 5, *method));
        ASSERT_TRUE(report) << report.error().message;
        EXPECT_EQ(report->cells_after, 40u);
        EXPECT_EQ(report->study_tokens, 0);
        EXPECT_TRUE(report->heads.empty());
        std::vector<uint32_t> kept = report->regions.head;
        for (const auto* cells : {&report->regions.pinned, &report->regions.tail})
            kept.insert(kept.end(), cells->begin(), cells->end());
        const SequenceState after = testing::snapshot_of(ctx.get());
        EXPECT_EQ(head_and_tail(take_cells(before.sections[0], kept), 40, 0),
                  head_and_tail(after.sections[0], 40, 0));
        testing::expect_stands_together_before(report->regions.tail.size(), 200, after.sections[0]);
    }
}

} // namespace
} // namespace kvfold
