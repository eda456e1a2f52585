#include "study/draft.h"

#include "study/model_sequence.h"

namespace kvfold {
namespace {

constexpr llama_pos kContext = 100;

class DraftsOn : public ::testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        studied_ = testing::studied_model(GetParam());
        ASSERT_FALSE(studied_.map.layers.empty());
        const testing::ContextPtr ctx = testing::make_context(studied_.model);
        context_ = testing::filler_tokens(studied_.model.get(), kContext);
        ASSERT_EQ(testing::decode(ctx.get(), context_, 0), 0);
        snapshot_ = testing::snapshot_of(ctx.get());
    }

    // What is asked while drafts are written with a seed.
    Study drafted(const Drafts& drafts, llama_token newest, uint64_t seed) {
        QueryTap tap(studied_.map.layers, draft_cells(studied_.model.get(), drafts));
        ScratchParams params = testing::scratch_params();
        params.spare_cells = draft_cells(studied_.model.get(), drafts);
        params.sequences = draft_sequences(drafts);
        auto scratch = Scratch::open(studied_.model.get(), studied_.map, snapshot_, params, &tap,
                                     [](Stage, float done) { return done <= 1; });
        EXPECT_TRUE(scratch) << scratch.error().message;
        if (!scratch) return {};
        std::mt19937_64 rng(seed);
        const Status status = write_drafts(*scratch, studied_.model.get(), newest, drafts, rng);
        EXPECT_TRUE(status) << status.error().message;
        return tap.take();
    }

    testing::StudiedModel studied_;
    std::vector<llama_token> context_;
    SequenceState snapshot_;
};

TEST_P(DraftsOn, AskTheSameForTheSameSeedOnly) {
    const Drafts drafts{6, 8};
    const auto rows = [&](uint64_t seed) {
        return drafted(drafts, context_.back(), seed).layers.front().rows;
    };
    const Matrix first = rows(5), again = rows(5), other = rows(6);
    EXPECT_EQ(first, again);
    EXPECT_FALSE(first.rows() == other.rows() && first == other);
}

// The newest token of a text that goes on is read again, behind the same cells: its queries are known.
TEST_P(DraftsOn, BeginWhereTheTextEnds) {
    QueryTap tap(studied_.map.layers, kContext);
    llama_context_params params = testing::one_thread();
    params.cb_eval = QueryTap::callback;
    params.cb_eval_user_data = &tap;
    params.n_ctx = 256;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    const testing::ContextPtr ctx(llama_init_from_model(studied_.model.get(), params));
    tap.open(true);
    ASSERT_EQ(testing::decode(ctx.get(), context_, 0), 0);
    const Study read = tap.take();
    const Study asked = drafted({1, 1}, context_.back(), 1);
    ASSERT_EQ(asked.tokens(), 1);
    ASSERT_EQ(read.tokens(), kContext);
    const Matrix newest = read.layers.front().rows.bottomRows(read.layers.front().readers);
    EXPECT_LT((asked.layers.front().rows - newest).norm(), 0.02f * newest.norm());
    const Matrix before = read.layers.front().rows.middleRows(0, newest.rows()); // broken twin: another token
    EXPECT_GT((asked.layers.front().rows - before).norm(), 0.1f * newest.norm());
}

TEST_P(DraftsOn, AreOnlyAskedForWhereTheNewestTokenIsUnknown) {
    const Drafts drafts{5, 1};
    const Index with = drafted(drafts, context_.back(), 1).tokens();
    const Index without = drafted(drafts, LLAMA_TOKEN_NULL, 1).tokens();
    EXPECT_EQ(with, without + 1);
    EXPECT_GT(without, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, DraftsOn, ::testing::Values("KVFOLD_PLAIN_MODEL", "KVFOLD_WINDOW_MODEL"),
                         [](const auto& info) { return std::string(info.param + sizeof "KVFOLD"); });

TEST(PlanDrafts, WritesManyShortOnes) {
    for (const size_t tokens : {1, 100, 512, 2000, 10000}) {
        for (const bool recurrent : {false, true}) {
            const Drafts drafts = plan_drafts(tokens, recurrent);
            EXPECT_GE(drafts.count * drafts.tokens, tokens);
            EXPECT_LE(drafts.count * (drafts.tokens - 1), tokens);
            EXPECT_GE(drafts.count, 5u);
            EXPECT_LE(drafts.count, recurrent ? 5u : 32u);
        }
    }
    EXPECT_EQ(plan_drafts(512, false).count, 16u);
}

} // namespace
} // namespace kvfold
