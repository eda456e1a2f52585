#include "study/self_study.h"

#include "study/model_sequence.h"

namespace kvfold {
namespace {

class SelfStudyOn : public ::testing::TestWithParam<const char*> {};

TEST_P(SelfStudyOn, DraftsAreTheSameForTheSameSeedOnly) {
    const testing::StudiedModel studied = testing::studied_model(GetParam());
    ASSERT_FALSE(studied.map.layers.empty());
    const testing::ContextPtr ctx = testing::make_context(studied.model);
    const auto context = testing::filler_tokens(studied.model.get(), 100);
    ASSERT_EQ(testing::decode(ctx.get(), context, 0), 0);
    const SequenceState snapshot = testing::snapshot_of(ctx.get());

    // One draft continues the text, two also answer a question. Decoding is slow: both on the smaller model
    // only.
    const size_t wanted = studied.map.has_window ? 1 : 65;
    const auto drafted = [&](uint64_t seed) {
        std::vector<std::vector<llama_token>> drafts;
        auto scratch = Scratch::open(studied.model.get(), studied.map, snapshot, testing::scratch_params(),
                                     nullptr, [](Stage, float done) { return done <= 1; });
        EXPECT_TRUE(scratch) << scratch.error().message;
        if (!scratch) return drafts;
        std::mt19937_64 rng(seed);
        const auto passages = draft_passages(*scratch, studied.model.get(), context.back(), wanted, rng);
        EXPECT_TRUE(passages) << passages.error().message;
        if (!passages) return drafts;
        for (const Passage& passage : *passages) {
            EXPECT_EQ(passage.first_pos, 100);
            EXPECT_FALSE(passage.tokens.empty());
            EXPECT_LE(passage.tokens.size(), draft_cells(studied.model.get()));
            drafts.push_back(passage.tokens);
        }
        return drafts;
    };
    const auto drafts = drafted(5);
    EXPECT_GE(drafts.size(), wanted > 1 ? 2u : 1u);
    EXPECT_EQ(drafts, drafted(5));
    EXPECT_NE(drafts, drafted(6));
}

INSTANTIATE_TEST_SUITE_P(Models, SelfStudyOn, ::testing::Values("KVFOLD_PLAIN_MODEL", "KVFOLD_WINDOW_MODEL"),
                         [](const auto& info) { return std::string(info.param + sizeof "KVFOLD"); });

} // namespace
} // namespace kvfold
