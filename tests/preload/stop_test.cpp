// A program that is told to stop does not wait for its folds, and others can see meanwhile how long it waits.
#include "preload/program.h"

#include "support/llama_fixture.h"

#include <atomic>
#include <future>

namespace kvfold::preload {
namespace {

constexpr uint32_t kRoom = 512;
constexpr auto kPause = std::chrono::milliseconds(1);

std::atomic<bool> g_fits = false;

// Until it is cancelled; a test that fails waits a minute.
Result<Fitted> fit_for_ever(const RegionProblem& problem) {
    g_fits = true;
    for (int i = 0; i < 60000; ++i) {
        if (!goes_on(problem.progress, Stage::study, 0)) return fail(ErrorCode::cancelled, "cancelled");
        std::this_thread::sleep_for(kPause);
    }
    return fail(ErrorCode::internal, "nobody cancelled the fold");
}

const Method kEndless = {.name = "endless", .advice = "never", .fit = fit_for_ever};

class Stop : public ::testing::Test {
  protected:
    void SetUp() override {
        g_fits = false;
        model_ = testing::load_model("KVFOLD_PLAIN_MODEL");
        ASSERT_TRUE(model_);
        tokens_ = testing::filler_tokens(model_.get(), 3 * kRoom);
        manage(&kEndless);
    }
    void TearDown() override { program_.reset(); }

    void manage(const Method* method) {
        program_.reset();
        ctx_ = testing::make_context(model_, {.n_ctx = kRoom});
        ASSERT_TRUE(ctx_);
        llama_context_params params = llama_context_default_params();
        params.n_ctx = kRoom;
        params.n_seq_max = 1;
        params.n_threads = params.n_threads_batch = 1;
        Policy policy;
        policy.automatic = true;
        policy.method = method;
        auto map = probe_attention(model_.get(), params);
        ASSERT_TRUE(map) << map.error().message;
        program_.emplace(ctx_.get(), model_.get(), params, policy, /*archive_bytes=*/0,
                         Recalling{.map = *std::move(map)});
    }

    // Code of the last decode.
    int feed(llama_pos first, llama_pos last) {
        int code = 0;
        for (llama_pos pos = first; pos < last && code == 0; pos += 64) {
            Batch batch(64);
            for (llama_pos at = pos; at < std::min(last, pos + 64); ++at)
                batch.add(tokens_[static_cast<size_t>(at)], at, {0}, at + 1 == last);
            code = program_->decode(batch);
        }
        return code;
    }
    static void wait_for_a_fit() {
        while (!g_fits)
            std::this_thread::sleep_for(kPause);
    }
    std::set<std::string> methods() {
        std::set<std::string> found;
        const Json state = program_->state();
        for (const Json& fold : state["folds"])
            found.insert(fold["method"].get<std::string>());
        return found;
    }

    testing::ModelPtr model_;
    testing::ContextPtr ctx_;
    std::vector<llama_token> tokens_;
    std::optional<Program> program_;
};

using Methods = std::set<std::string>;

TEST_F(Stop, APromptThatWaitsForAFoldGoesOn) {
    EXPECT_EQ(program_->managed().busy_s(), 0);
    auto reading = std::async(std::launch::async, [&] { return feed(0, 3 * kRoom); });
    wait_for_a_fit();
    while (program_->managed().busy_s() == 0) // between two decodes; the next one waits
        std::this_thread::sleep_for(kPause);
    program_->managed().hurry(true);
    EXPECT_EQ(reading.get(), 0);
    EXPECT_EQ(program_->end(0), 3 * kRoom);
    EXPECT_EQ(methods(), Methods{"keep_last"});
    EXPECT_EQ(program_->state()["totals"]["failures"], 0);
    EXPECT_EQ(program_->managed().busy_s(), 0);
}

TEST_F(Stop, NothingIsFoldedAheadOfTheNeed) {
    program_->managed().hurry(true);
    ASSERT_EQ(feed(0, kRoom), 0); // above the high-water mark
    EXPECT_FALSE(program_->is_folding());
    EXPECT_EQ(methods(), Methods{});
}

TEST_F(Stop, AStateThatIsBeingFoldedInIsRestored) {
    const auto large = testing::make_context(model_, {.n_ctx = 3 * kRoom});
    ASSERT_EQ(testing::decode(large.get(), tokens_, 0), 0);
    std::vector<uint8_t> bytes(llama_state_seq_get_size(large.get(), 0));
    ASSERT_EQ(llama_state_seq_get_data(large.get(), bytes.data(), bytes.size(), 0), bytes.size());
    auto restoring = std::async(std::launch::async, [&] { return program_->restore_state(bytes, 0); });
    wait_for_a_fit();
    EXPECT_GT(program_->managed().busy_s(), 0); // although the context's lock is taken
    program_->managed().hurry(true);
    EXPECT_EQ(restoring.get(), bytes.size());
    EXPECT_EQ(program_->end(0), 3 * kRoom);
}

TEST_F(Stop, AStopThatIsTakenBackLeavesThePolicyAsItWas) {
    manage(*find_method("select"));
    program_->managed().hurry(true);
    program_->managed().hurry(false);
    ASSERT_EQ(feed(0, 3 * kRoom), 0);
    program_->settle();
    EXPECT_EQ(methods(), Methods{"select"});
}

} // namespace
} // namespace kvfold::preload
