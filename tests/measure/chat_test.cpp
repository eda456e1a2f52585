// A conversation that is folded again and again.
#include "measure/chat.h"
#include "measure/model_text.h"

namespace kvfold {
namespace {


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
