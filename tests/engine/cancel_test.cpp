// The sequence is what it was until the swap, whenever the caller stops.
#include "engine/model_sequence.h"

#include <array>
#include <map>

namespace kvfold {
namespace {

using testing::ContextPtr;

constexpr llama_pos kTokens = 120;
constexpr std::array kStages = {Stage::study, Stage::draft, Stage::solve, Stage::swap};

class CancelledOn : public ::testing::TestWithParam<const char*> {};

TEST_P(CancelledOn, EveryStageLeavesTheSequenceAndTheNextLogitsAlone) {
    const testing::ModelPtr model = testing::load_model(GetParam());
    const ContextPtr ctx = testing::make_context(model, {.n_ctx = 512});
    ASSERT_TRUE(ctx);
    const auto tokens = testing::filler_tokens(model.get(), kTokens);
    ASSERT_EQ(testing::decode(ctx.get(), tokens, 0), 0);
    const std::vector<uint8_t> before = testing::raw_state(ctx.get());
    const auto next = testing::forced_logits(ctx.get(), {tokens[3]}, kTokens);

    // How often each stage asks in a run that nobody stops; on a copy, which the run may change.
    std::map<Stage, int> asked;
    Method method = methods::self_study; // the only one with all stages; as little of each as there can be
    method.study.parts = {{Source::tail, 0.25f}};
    method.study.draft_share = 0.01f;
    method.solve.refine_steps = 0;
    CompactRequest request = testing::request_for(tokens, 4, method);
    request.progress = [&](Stage stage, float done) {
        EXPECT_GE(done, 0);
        EXPECT_LE(done, 1);
        ++asked[stage];
        return true;
    };
    const SequenceState snapshot = testing::snapshot_of(ctx.get());
    ASSERT_TRUE(compact_sequence(ctx.get(), 0, request));
    EXPECT_NE(testing::raw_state(ctx.get()), before); // broken twin: not cancelled, it does change
    ASSERT_TRUE(write_sequence(ctx.get(), 0, snapshot));
    ASSERT_EQ(testing::raw_state(ctx.get()), before);
    for (const Stage stage : kStages)
        EXPECT_GT(asked[stage], 0) << static_cast<int>(stage);

    for (const Stage stage : kStages) {
        for (const int nth : {1, asked[stage]}) { // the first question and the last
            SCOPED_TRACE(::testing::Message() << "stage " << static_cast<int>(stage) << ", question " << nth);
            int questions = 0, after = 0;
            request.progress = [&](Stage now, float) {
                if (questions >= nth) ++after;
                if (now == stage) ++questions;
                return questions < nth;
            };
            const auto report = compact_sequence(ctx.get(), 0, request);
            ASSERT_FALSE(report);
            EXPECT_EQ(report.error().code, ErrorCode::cancelled) << report.error().message;
            EXPECT_EQ(after, 0); // asked no more
            ASSERT_EQ(testing::raw_state(ctx.get()), before);
        }
    }
    EXPECT_EQ(testing::forced_logits(ctx.get(), {tokens[3]}, kTokens), next);
}

TEST_P(CancelledOn, TheLastLogitsSurviveAStudyAndASwap) {
    const testing::ModelPtr model = testing::load_model(GetParam());
    const ContextPtr ctx = testing::make_context(model, {.n_ctx = 512});
    ASSERT_TRUE(ctx);
    const auto tokens = testing::filler_tokens(model.get(), kTokens);
    ASSERT_EQ(testing::decode(ctx.get(), tokens, 0), 0);
    const std::vector<float> logits = testing::last_logits(ctx.get());
    ASSERT_TRUE(compact_sequence(ctx.get(), 0, testing::request_for(tokens, 4, testing::quick_method())));
    EXPECT_EQ(testing::last_logits(ctx.get()), logits); // a caller that samples afterwards samples the same
}

INSTANTIATE_TEST_SUITE_P(Models, CancelledOn, ::testing::Values("KVFOLD_PLAIN_MODEL", "KVFOLD_WINDOW_MODEL"),
                         [](const auto& info) { return std::string(info.param + sizeof "KVFOLD"); });

} // namespace
} // namespace kvfold
