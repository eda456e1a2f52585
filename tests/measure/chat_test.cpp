// A conversation that is folded again and again.
#include "measure/chat.h"
#include "measure/model_text.h"

namespace kvfold {
namespace {

constexpr size_t kContext = 768; // the smallest, so 192 cells

TEST(Chat, FoldsTenTimesAndMoreWithinItsCellsBesideATwinThatNeverFolds) {
    const testing::ModelPtr model = testing::load_model("KVFOLD_MODEL_SMOL");
    EvalRequest request = testing::request_with({&methods::select}, 8);
    request.caches = {{"f16"}, {"the same"}};
    const auto rows = evaluate_chat(model.get(), kContext, request);
    ASSERT_TRUE(rows) << rows.error().message;
    ASSERT_EQ(rows->size(), 3u);
    const EvalRow &folded = rows->at(0), &twin = rows->at(1), &again = rows->at(2);

    EXPECT_EQ(twin.method, kFullCache);
    EXPECT_EQ(twin.score.kl, 0) << "fed the same tokens and never folded";
    EXPECT_EQ(twin.score.exact, folded.score.exact_full);
    EXPECT_EQ(twin.report.cells_after, folded.report.cells_before);
    EXPECT_EQ(folded.score.kl, again.score.kl) << "the same cells, tokens and seed";

    double folds = 0;
    size_t tokens = 0;
    ASSERT_EQ(folded.rounds.size(), 12u);
    for (const RoundScore& round : folded.rounds) {
        folds += round.folds;
        EXPECT_LE(round.cells, kContext / 4);
        EXPECT_GE(round.cells_full, static_cast<double>(round.round) * kContext / 6);
        EXPECT_EQ(round.recall.answers, 8u);
        tokens += round.speech.tokens;
    }
    EXPECT_GE(folds, 10);
    EXPECT_GT(tokens, kContext / 2);
    EXPECT_GT(folded.score.kl, 0.02); // broken twin: most of the conversation is gone
    EXPECT_GT(folded.rounds.back().speech.kl, 0);
}

TEST(Chat, RefusesWhatTheModelWasNotTrainedFor) {
    const testing::ModelPtr model = testing::load_model("KVFOLD_MODEL_SMOL");
    const auto refusal = [&](size_t context) {
        const Status status = check_chat(model.get(), context);
        return status ? "not refused" : status.error().message;
    };
    EXPECT_EQ(refusal(2048), "not refused");
    EXPECT_NE(refusal(700).find("raise -c 700"), std::string::npos);
    EXPECT_NE(refusal(8192).find("lower -c 8192"), std::string::npos);
}

} // namespace
} // namespace kvfold
