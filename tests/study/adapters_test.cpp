// A study asks the model with the adapters that the user's context has.
#include "study/scratch.h"
#include "support/tiny_model.h"

namespace kvfold {
namespace {

constexpr size_t kText = 60, kAsked = 30;

std::string tiny_file(const std::string& name) {
    return std::string(std::getenv("KVFOLD_TINY_MODELS")) + "/" + name + ".gguf";
}

// The queries that a passage behind a text asks.
Matrix queries(const std::string& name, const std::function<void(llama_model*, Adapters&)>& load) {
    const testing::ModelPtr model = testing::tiny_model(name);
    Adapters adapters;
    load(model.get(), adapters);
    llama_context_params params = llama_context_default_params();
    params.n_ctx = 256;
    params.n_threads = params.n_threads_batch = 1;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    const auto ctx = new_context(model.get(), params, adapters);
    EXPECT_TRUE(ctx);
    const std::vector<llama_token> tokens = testing::random_tokens(kText + kAsked);
    EXPECT_TRUE(decode_tokens(ctx->get(), std::span(tokens).first(kText), 0, Outputs::none));
    const SequenceState snapshot = testing::snapshot_of(ctx->get());
    const auto map = probe_attention(model.get(), params);
    EXPECT_TRUE(map);
    QueryTap tap(map->layers, kAsked);
    auto scratch = Scratch::open(model.get(), *map, snapshot, {params, 1, kAsked, adapters}, &tap, {});
    EXPECT_TRUE(scratch);
    EXPECT_TRUE(scratch->prefill(std::span(tokens).last(kAsked), static_cast<llama_pos>(kText)));
    return tap.take().layers.back().rows;
}

float distance(const Matrix& a, const Matrix& b) { return (a - b).norm() / a.norm(); }

TEST(AdaptersOfAStudy, AskAsTheModelTheyAreMergedInto) {
    const auto none = [](llama_model*, Adapters&) {};
    const auto lora = [](llama_model* model, Adapters& adapters) {
        EXPECT_TRUE(load_lora(model, tiny_file("mha_lora"), 1, adapters));
    };
    const Matrix merged = queries("mha_merged", none);
    EXPECT_LT(distance(merged, queries("mha", lora)), 0.01);
    EXPECT_GT(distance(merged, queries("mha", none)), 0.1); // broken twin: the model alone
}

TEST(AdaptersOfAStudy, ControlVectorsAddUpAndTurnTheQueries) {
    const auto times = [](std::vector<float> scales) {
        return [scales](llama_model* model, Adapters& adapters) {
            for (const float scale : scales)
                EXPECT_TRUE(load_control_vector(model, tiny_file("mha_control"), scale, adapters));
        };
    };
    const Matrix plain = queries("mha", times({})), turned = queries("mha", times({1}));
    EXPECT_GT(distance(plain, turned), 0.1);
    EXPECT_LT(distance(turned, queries("mha", times({0.25f, 0.75f}))), 1e-5);
    EXPECT_LT(distance(plain, queries("mha", times({1, -1}))), 1e-5);
}

TEST(AdaptersOfAStudy, FilesThatAreNoneAreRefused) {
    const testing::ModelPtr model = testing::tiny_model("mha");
    Adapters adapters;
    const auto lora = load_lora(model.get(), tiny_file("mha_control"), 1, adapters);
    ASSERT_FALSE(lora);
    EXPECT_NE(lora.error().message.find("mha_control"), std::string::npos);
    const auto control = load_control_vector(model.get(), tiny_file("mha_lora"), 1, adapters);
    ASSERT_FALSE(control);
    EXPECT_NE(control.error().message.find("direction.1"), std::string::npos);
    EXPECT_FALSE(load_control_vector(model.get(), "missing.gguf", 1, adapters));
}

} // namespace
} // namespace kvfold
