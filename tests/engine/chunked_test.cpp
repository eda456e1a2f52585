// Compaction chunk by chunk, of a sequence that stands in the cache and of a text while it is read.
#include "engine/chunks.h"
#include "engine/compact.h"
#include "engine/model_sequence.h"
#include "engine/read_in_chunks.h"
#include "state/live_sequence.h"
#include "support/positions.h"

#include <regex>

namespace kvfold {
namespace {

using testing::ContextPtr;
using Tokens = std::vector<llama_token>;

Method in_chunks_of(size_t cells) {
    Method method = methods::chunked;
    method.chunk = cells;
    method.solve.refine_steps = 0; // which only polishes
    return method;
}

// The sizes of the contexts that llama.cpp made since, from its log.
class NewContexts {
  public:
    NewContexts() { llama_log_set(read_line, this); }
    ~NewContexts() {
        llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    }
    NewContexts(const NewContexts&) = delete;
    NewContexts& operator=(const NewContexts&) = delete;
    std::vector<size_t> cells;

  private:
    static void read_line(ggml_log_level, const char* text, void* self) {
        std::cmatch found;
        if (std::regex_search(text, found, std::regex("n_ctx\\s+= (\\d+)")))
            static_cast<NewContexts*>(self)->cells.push_back(std::stoul(found[1]));
    }
};

size_t most(const std::vector<size_t>& sizes) {
    return sizes.empty() ? 0 : *std::max_element(sizes.begin(), sizes.end());
}

class ChunkedSequence : public ::testing::Test {
  protected:
    static constexpr size_t kTokens = 600;

    void SetUp() override {
        model_ = testing::load_model("KVFOLD_PLAIN_MODEL");
        ctx_ = testing::make_context(model_, {.n_ctx = 1024});
        ASSERT_TRUE(ctx_);
        tokens_ = testing::prose(model_.get(), kTokens);
        ASSERT_EQ(testing::decode(ctx_.get(), tokens_, 0), 0);
        before_ = testing::snapshot_of(ctx_.get());
    }

    CompactState compacted(const Method& method) {
        auto state = compact_state(model_.get(), before_, testing::request_for(tokens_, 6, method));
        EXPECT_TRUE(state) << state.error().message;
        return state ? *std::move(state) : CompactState{before_, {}};
    }

    testing::ModelPtr model_;
    ContextPtr ctx_;
    Tokens tokens_;
    SequenceState before_;
};

TEST_F(ChunkedSequence, OfOneChunkIsByteForByteWhatTheMethodMakesAtOnce) {
    const CompactState at_once = compacted(in_chunks_of(0));
    const CompactState one = compacted(in_chunks_of(kTokens));
    testing::expect_same_compaction(one, at_once);
    const CompactState two = compacted(in_chunks_of(kTokens / 2)); // broken twin: not one
    EXPECT_NE(encode_sequence(two.state), encode_sequence(at_once.state));
}

TEST_F(ChunkedSequence, KeepsItsShareOfEveryChunk) {
    const CompactState folded = compacted(in_chunks_of(100));
    const Regions& regions = folded.report.regions;
    const auto chunks = plan_chunks(before_.sections[0], regions, 100).value();
    ASSERT_EQ(chunks.size(), 6u);
    EXPECT_EQ(folded.report.cells_before, kTokens);
    EXPECT_EQ(folded.report.cells_after, kTokens / 6);
    ASSERT_FALSE(folded.report.heads.empty());
    for (const HeadReport& head : folded.report.heads) {
        ASSERT_EQ(head.kept.size(), regions.folded);
        EXPECT_TRUE(std::is_sorted(head.kept.begin(), head.kept.end()));
        for (const Chunk& chunk : chunks) {
            const auto in_chunk = std::count_if(head.kept.begin(), head.kept.end(), [&](uint32_t cell) {
                return cell >= chunk.begin && cell < chunk.end;
            });
            EXPECT_NEAR(static_cast<double>(in_chunk), static_cast<double>(regions.folded) / 6, 1);
        }
    }
    const KvSection& section = folded.state.sections[0];
    ASSERT_EQ(section.cells.size(), folded.report.cells_after);
    testing::expect_stands_together_before(regions.tail.size(), static_cast<int32_t>(kTokens), section);
}

TEST_F(ChunkedSequence, TakesAScratchContextOfAChunkAndWhatTheSequenceBecomes) {
    constexpr size_t kPassages = kPassage, kPadding = 256; // llama.cpp rounds contexts up
    NewContexts of_chunks;
    const CompactState folded = compacted(in_chunks_of(100));
    const size_t bound = folded.report.cells_after + 100 + kPassages + kPadding;
    ASSERT_GE(of_chunks.cells.size(), 6u);
    EXPECT_LT(most(of_chunks.cells), bound);

    NewContexts at_once; // broken twin
    compacted(in_chunks_of(0));
    EXPECT_GT(most(at_once.cells), bound);
}

TEST_F(ChunkedSequence, AnswersAlmostAsTheFullOne) {
    const Tokens all = testing::prose(model_.get(), kTokens + 128), next(all.end() - 128, all.end());
    const auto full = testing::forced_logits(ctx_.get(), next, kTokens);
    const auto kl_of = [&](const Method& method) {
        EXPECT_TRUE(write_sequence(ctx_.get(), 0, compacted(method).state));
        return testing::mean_kl(full, testing::forced_logits(ctx_.get(), next, kTokens));
    };
    EXPECT_LT(kl_of(in_chunks_of(200)),
              0.8 * kl_of(methods::keep_last)); // broken twin: forgets what it does not fold
}

TEST_F(ChunkedSequence, ThatIsCancelledAmidAChunkIsWhatItWas) {
    const std::vector<uint8_t> bytes = testing::raw_state(ctx_.get());
    const Method method = in_chunks_of(200);
    CompactRequest request = testing::request_for(tokens_, 6, method);
    float last = 0;
    for (const Stage stage : {Stage::study, Stage::solve}) {
        request.progress = [&](Stage now, float done) {
            EXPECT_GE(done, 0);
            EXPECT_LE(done, 1);
            last = done;
            return now != stage || done < 0.5f;
        };
        const auto report = compact_sequence(ctx_.get(), 0, request);
        ASSERT_FALSE(report);
        EXPECT_EQ(report.error().code, ErrorCode::cancelled);
        EXPECT_GE(last, 0.5f); // the second chunk of three
        EXPECT_EQ(testing::raw_state(ctx_.get()), bytes);
    }
}

TEST_F(ChunkedSequence, WithoutNewestCellsIsRefused) {
    const Method method = in_chunks_of(200);
    CompactRequest request = testing::request_for(tokens_, 6, method);
    request.budget.keep_last = 0;
    const auto report = compact_state(model_.get(), before_, request);
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code, ErrorCode::invalid_argument);
    EXPECT_NE(report.error().message.find("keep_last"), std::string::npos) << report.error().message;
    request.tokens = request.tokens.first(kTokens - 1);
    request.budget.keep_last = 1;
    EXPECT_FALSE(compact_state(model_.get(), before_, request));
}

class ReadInChunks : public ::testing::TestWithParam<const char*> {
  protected:
    static constexpr double kRatio = 4;

    void SetUp() override {
        model_ = testing::load_model(GetParam());
        const uint32_t window = static_cast<uint32_t>(llama_model_n_swa(model_.get()));
        ctx_ = testing::make_context(model_, {.n_ctx = 512 + window}); // a window and a batch, or a batch
        ASSERT_TRUE(ctx_);
        tokens_ = testing::prose(model_.get(), llama_n_ctx(ctx_.get()) + 188 + 16);
        next_.assign(tokens_.end() - 16, tokens_.end());
        tokens_.resize(tokens_.size() - 16);
        ASSERT_GT(tokens_.size(), llama_n_ctx(ctx_.get()));
    }

    AppendFn append() {
        return [this](TokenSpan tokens) -> Status {
            if (!tokens.empty() &&
                testing::decode(ctx_.get(), {tokens.begin(), tokens.end()}, pos_max() + 1) == 0)
                return {};
            return fail(ErrorCode::llama, "cannot decode {} tokens", tokens.size());
        };
    }

    llama_pos pos_max() const { return llama_memory_seq_pos_max(llama_get_memory(ctx_.get()), 0); }

    testing::ModelPtr model_;
    ContextPtr ctx_;
    Tokens tokens_, next_;
};

TEST_P(ReadInChunks, ATextLongerThanTheContextIsAnsweredAlmostAsByAFullOne) {
    const Method method = in_chunks_of(250); // three
    const auto report =
        read_in_chunks(ctx_.get(), 0, testing::request_for(tokens_, kRatio, method), append());
    ASSERT_TRUE(report) << report.error().message;
    const SequenceState folded = testing::snapshot_of(ctx_.get());
    const auto end = static_cast<llama_pos>(tokens_.size());
    EXPECT_EQ(report->cells_before, tokens_.size());
    EXPECT_EQ(report->cells_after, tokens_.size() / 4);
    EXPECT_EQ(folded.sections[0].cells.size(), report->cells_after);
    EXPECT_EQ(report->bytes_after, encode_sequence(folded).size() + 8);
    EXPECT_EQ(pos_max(), end - 1);
    const auto answered = testing::forced_logits(ctx_.get(), next_, end);
    ASSERT_EQ(answered.size(), next_.size()); // it goes on decoding

    const ContextPtr full_ctx = testing::make_context(model_, {.n_ctx = 1536});
    ASSERT_EQ(testing::decode(full_ctx.get(), tokens_, 0), 0);
    EXPECT_EQ(report->bytes_before, testing::raw_state(full_ctx.get()).size());
    const auto full = testing::forced_logits(full_ctx.get(), next_, end);
    SequenceState broken = folded; // its folded values negated
    for (CacheTensor& values : broken.sections[0].values) {
        Matrix rows = to_float(values);
        rows.middleRows(std::ssize(report->regions.head), report->regions.folded) *= -1;
        values = from_float(rows, values.type, values.transposed).value();
    }
    ASSERT_TRUE(write_sequence(ctx_.get(), 0, broken));
    const double kl = testing::mean_kl(full, answered);
    // Not refined and in chunks of a quarter of the usual size, so that the test is short.
    EXPECT_LT(kl, 0.3);
    EXPECT_GT(testing::mean_kl(full, testing::forced_logits(ctx_.get(), next_, end)), 2 * kl);
}

TEST_P(ReadInChunks, AFailureLeavesWhatTheLastFinishedChunkLeft) {
    const Method method = in_chunks_of(250); // three
    CompactRequest request = testing::request_for(tokens_, kRatio, method);
    std::vector<uint8_t> finished; // when the last text came
    int texts = 0;
    const AppendFn decode = append();
    const AppendFn counting = [&](TokenSpan tokens) {
        ++texts;
        finished = pos_max() < 0 ? std::vector<uint8_t>{} : testing::raw_state(ctx_.get());
        return decode(tokens);
    };
    request.progress = [&](Stage stage, float) { return texts < 2 || stage != Stage::solve; };
    const auto cancelled = read_in_chunks(ctx_.get(), 0, request, counting);
    ASSERT_FALSE(cancelled);
    EXPECT_EQ(cancelled.error().code, ErrorCode::cancelled) << cancelled.error().message;
    EXPECT_EQ(texts, 2);
    ASSERT_FALSE(finished.empty());
    EXPECT_EQ(testing::raw_state(ctx_.get()), finished);
    const llama_pos end = pos_max() + 1;
    EXPECT_EQ(testing::decode(ctx_.get(), {tokens_[static_cast<size_t>(end)]}, end), 0);

    ASSERT_TRUE(llama_memory_seq_rm(llama_get_memory(ctx_.get()), 0, -1, -1));
    request.progress = [](Stage stage, float) { return stage != Stage::solve; };
    EXPECT_FALSE(read_in_chunks(ctx_.get(), 0, request, append()));
    EXPECT_EQ(pos_max(), -1);
    const AppendFn breaks_off = [&](TokenSpan tokens) -> Status {
        EXPECT_TRUE(decode(tokens.first(10)));
        return fail(ErrorCode::llama, "broken off");
    };
    request.progress = {};
    EXPECT_FALSE(read_in_chunks(ctx_.get(), 0, request, breaks_off));
    EXPECT_EQ(pos_max(), -1);
}

INSTANTIATE_TEST_SUITE_P(Models, ReadInChunks, ::testing::Values("KVFOLD_PLAIN_MODEL", "KVFOLD_WINDOW_MODEL"),
                         [](const auto& info) { return std::string(info.param + sizeof "KVFOLD"); });

TEST(ReadInChunksRequests, ThatMakeNoSenseAreRefused) {
    const testing::ModelPtr model = testing::load_model("KVFOLD_PLAIN_MODEL");
    const ContextPtr ctx = testing::make_context(model, {.n_ctx = 256});
    ASSERT_TRUE(ctx);
    const Tokens tokens = testing::filler_tokens(model.get(), 2000);
    const AppendFn never = [](TokenSpan) -> Status {
        ADD_FAILURE() << "asked for text";
        return {};
    };
    const auto refusal = [&](const CompactRequest& request) {
        const auto report = read_in_chunks(ctx.get(), 0, request, never);
        if (report) return std::string("not refused");
        EXPECT_EQ(report.error().code, ErrorCode::invalid_argument);
        return report.error().message;
    };
    EXPECT_NE(refusal(testing::request_for(tokens, 8, methods::refine)).find("chunked"), std::string::npos);
    EXPECT_NE(refusal(testing::request_for(tokens, 8, methods::chunked)).find("256"), std::string::npos);
    EXPECT_NE(refusal(testing::request_for(tokens, 0.5, methods::chunked)).find("ratio"), std::string::npos);
    ASSERT_EQ(testing::decode(ctx.get(), {tokens[0], tokens[1]}, 0), 0);
    EXPECT_NE(refusal(testing::request_for(tokens, 16, methods::chunked)).find("empty"), std::string::npos);
}

TEST(ReadInChunksRequests, ThatLeaveNoRoomForTheWindowAreRefused) {
    const testing::ModelPtr model = testing::load_model("KVFOLD_WINDOW_MODEL");
    const ContextPtr ctx = testing::make_context(model, {.n_ctx = 512});
    ASSERT_TRUE(ctx);
    const Tokens tokens = testing::filler_tokens(model.get(), 1000);
    const auto report =
        read_in_chunks(ctx.get(), 0, testing::request_for(tokens, 8, methods::chunked),
                       [](TokenSpan) -> Status { return fail(ErrorCode::internal, "asked for text"); });
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code, ErrorCode::invalid_argument);
    EXPECT_NE(report.error().message.find("window"), std::string::npos) << report.error().message;
}

} // namespace
} // namespace kvfold
