// A conversation that is folded again and again.
#include "measure/chat.h"
#include "measure/chat_lane.h"
#include "measure/chat_script.h"
#include "measure/model_text.h"

namespace kvfold {
namespace {

TEST(Chat, RefusesWhatTheModelWasNotTrainedFor) {
    const testing::ModelPtr model = testing::load_model("KVFOLD_PLAIN_MODEL");
    const auto refusal = [&](size_t context) {
        const Status status = check_chat(model.get(), context, 12);
        return status ? "not refused" : status.error().message;
    };
    EXPECT_EQ(refusal(2048), "not refused");
    EXPECT_NE(refusal(700).find("raise -c 700"), std::string::npos);
    EXPECT_NE(refusal(8192).find("lower -c 8192"), std::string::npos);
}

TEST(Chat, AFoldThatIsOnlyAskedLeavesNoTrace) {
    const testing::ModelPtr model = testing::load_model("KVFOLD_PLAIN_MODEL");
    const EvalRequest request = testing::request_with({&methods::select}, 4);
    auto lane = ChatLane::open(model.get(), {"f16"}, request.compact, 640, 192);
    ASSERT_TRUE(lane) << lane.error().message;
    ChatScript script(model.get(), 1);
    while (lane->tokens() < 256)
        ASSERT_TRUE(lane->say(script.next()));
    const std::vector<Probe> probes = {script.recall().front()};
    const auto before = lane->ask(probes);
    const auto folded = lane->ask_folded(probes, methods::select, 64, 16);
    const auto after = lane->ask(probes);
    ASSERT_TRUE(before && folded && after);
    EXPECT_EQ(before->front(), after->front());
    EXPECT_NE(before->front(), folded->front());
    EXPECT_EQ(lane->cells(), lane->tokens());
}

TEST(Chat, ALaneFoldsAsItGrowsAndForgetsWhatItWasAsked) {
    const testing::ModelPtr model = testing::load_model("KVFOLD_PLAIN_MODEL");
    const EvalRequest request = testing::request_with({&methods::select}, 4);
    constexpr size_t kCells = 224, kSpare = 192;
    const auto open = [&](size_t cells) {
        return ChatLane::open(model.get(), {"f16"}, request.compact, cells, kSpare);
    };
    auto folded = open(kCells), full = open(3 * kCells);
    ASSERT_TRUE(folded) << folded.error().message;
    ASSERT_TRUE(full) << full.error().message;
    folded->fold_with(methods::select, 4, 0);

    ChatScript script(model.get(), 1);
    std::vector<Score> before, after; // the first fold
    while (full->tokens() < 2 * kCells) {
        const Probe turn = script.next();
        const auto of_full = full->say(turn), of_folded = folded->say(turn);
        ASSERT_TRUE(of_full) << of_full.error().message;
        ASSERT_TRUE(of_folded) << of_folded.error().message;
        (folded->folds() == 0 ? before : after).push_back(score_answer(*of_full, *of_folded, turn.answer));
        EXPECT_EQ(folded->tokens(), full->tokens());
        EXPECT_LE(folded->cells(), kCells);
        const size_t cells = folded->cells();
        ASSERT_TRUE(folded->ask({script.recall().front()}));
        EXPECT_EQ(folded->cells(), cells);
    }
    EXPECT_GE(folded->folds(), 2);
    EXPECT_EQ(full->folds(), 0);
    EXPECT_EQ(full->cells(), full->tokens());
    EXPECT_LT(pool(before).kl, 1e-3);                // asking left no trace
    EXPECT_GT(pool(after).kl, 10 * pool(before).kl); // broken twin: a folded lane is not a full one
}

} // namespace
} // namespace kvfold
