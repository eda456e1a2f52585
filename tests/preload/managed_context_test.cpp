// The bookkeeping and folding of a managed context against what llama.cpp itself holds.
#include "base/format.h"
#include "preload/managed_context.h"

#include "preload/real.h"
#include "state/live_sequence.h"
#include "support/divergence.h"
#include "support/llama_fixture.h"

#include <filesystem>
#include <thread>

namespace kvfold::preload {
namespace {

using testing::decode;
using testing::last_logits;

constexpr uint32_t kCells = 512;

class Managed : public ::testing::Test {
  protected:
    void SetUp() override {
        model_ = testing::load_model("KVFOLD_PLAIN_MODEL");
        ASSERT_TRUE(model_);
        tokens_ = testing::filler_tokens(model_.get(), 2000);
        manage(folding());
    }

    // Two sequences, in one cache or each in its own half.
    void manage(const Policy& policy, bool unified = true) {
        managed_.reset();
        ctx_ = testing::make_context(model_, {.n_ctx = kCells, .n_seq_max = 2, .unified = unified});
        ASSERT_TRUE(ctx_);
        llama_context_params params = llama_context_default_params();
        params.n_ctx = kCells;
        params.n_seq_max = 2;
        params.kv_unified = unified;
        params.n_threads = params.n_threads_batch = 1;
        managed_ = std::make_unique<ManagedContext>(ctx_.get(), model_.get(), params, 4, 1, policy);
    }

    void TearDown() override { managed_.reset(); }

    static Policy folding() {
        Policy policy;
        policy.automatic = true;
        policy.method = *find_method("select"); // the cheapest that folds
        return policy;
    }

    // As a program would, through the manager. Returns llama_decode's answer.
    int feed(llama_pos first, llama_pos last, llama_seq_id seq_id = 0) {
        const std::vector<llama_token> part(tokens_.begin() + first, tokens_.begin() + last);
        std::vector<BatchEntry> entries;
        for (llama_pos pos = first; pos < last; ++pos)
            entries.push_back({tokens_[static_cast<size_t>(pos)], pos, {seq_id}});
        return managed_->decode(entries, [&] { return decode(ctx_.get(), part, first, seq_id); });
    }

    void feed_all(llama_pos end, llama_pos first = 0) {
        constexpr llama_pos step = 64;
        for (llama_pos pos = first; pos < end; pos += step)
            ASSERT_EQ(feed(pos, std::min(end, pos + step)), 0) << "at " << pos;
    }

    Json sequence(size_t index = 0) { return managed_->state()["sequences"].at(index); }

    void settle() { // no fold may run on
        while (sequence()["folding"].get<bool>())
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }

    size_t real_cells(llama_seq_id seq_id = 0) {
        const auto state = read_sequence(ctx_.get(), seq_id);
        EXPECT_TRUE(state) << state.error().message;
        return state ? state->sections.front().cells.size() : 0;
    }

    testing::ModelPtr model_;
    testing::ContextPtr ctx_;
    std::vector<llama_token> tokens_;
    std::unique_ptr<ManagedContext> managed_;
};

TEST_F(Managed, APromptThreeTimesTheCellsGoesIn) {
    feed_all(3 * kCells);
    settle();
    EXPECT_EQ(sequence()["tokens"], 3 * kCells);
    EXPECT_LE(real_cells(), kCells);
    EXPECT_EQ(sequence()["cells"], real_cells());
    EXPECT_GT(managed_->state()["totals"]["folds"], 1);
    EXPECT_EQ(llama_memory_seq_pos_max(llama_get_memory(ctx_.get()), 0),
              static_cast<llama_pos>(3 * kCells - 1));
}

TEST_F(Managed, WithoutAPolicyTheProgramHearsThatCellsRanOut) {
    manage({});
    EXPECT_EQ(feed(0, kCells), 0);
    EXPECT_EQ(feed(kCells, kCells + 1), 1);
    EXPECT_EQ(sequence()["tokens"], kCells);
    EXPECT_EQ(sequence()["cells"], real_cells());
}

TEST_F(Managed, CellsThatCameDuringAFoldStayByteForByte) {
    ASSERT_EQ(feed(0, 300), 0);
    const auto job = managed_->compact(0, *find_method("select"), 4);
    ASSERT_TRUE(job) << job.error().message;
    ASSERT_EQ(feed(300, 340), 0); // while it runs, or after
    const auto before = read_sequence(ctx_.get(), 0);
    settle();
    ASSERT_TRUE(managed_->job(*job)->done);
    ASSERT_TRUE(managed_->job(*job)->status);
    const auto after = read_sequence(ctx_.get(), 0);
    ASSERT_TRUE(before && after);
    const KvSection &a = before->sections.front(), &b = after->sections.front();
    std::vector<uint32_t> last_a, last_b;
    for (uint32_t i = 40; i > 0; --i) {
        last_a.push_back(static_cast<uint32_t>(a.cells.size()) - i);
        last_b.push_back(static_cast<uint32_t>(b.cells.size()) - i);
    }
    EXPECT_EQ(b.cells[last_b.front()].pos, 300);
    for (size_t layer = 0; layer < a.keys.size(); ++layer) {
        EXPECT_EQ(take_cells(a.keys[layer], last_a).bytes, take_cells(b.keys[layer], last_b).bytes);
        EXPECT_EQ(take_cells(a.values[layer], last_a).bytes, take_cells(b.values[layer], last_b).bytes);
    }
}

TEST_F(Managed, ACutInsideTheFoldReadsTheTokensAgain) {
    feed_all(600);
    settle();
    ASSERT_TRUE(managed_->remove(0, 100, -1));
    EXPECT_EQ(sequence()["tokens"], 100);
    EXPECT_EQ(real_cells(), 100u);
    EXPECT_EQ(managed_->state()["totals"]["rereads"], 1);
    ASSERT_EQ(feed(100, 101), 0);
    const std::vector<float> reread = last_logits(ctx_.get());

    const auto fresh = testing::make_context(model_, {.n_ctx = kCells});
    ASSERT_EQ(decode(fresh.get(), {tokens_.begin(), tokens_.begin() + 101}, 0), 0);
    EXPECT_LT(testing::kl_divergence(last_logits(fresh.get()), reread), 0.02); // batches differ
}

TEST_F(Managed, ACutInTheMiddleOfAFoldIsRefusedAndChangesNothing) {
    feed_all(600);
    settle();
    const auto before = testing::raw_state(ctx_.get());
    EXPECT_FALSE(managed_->remove(0, 100, 110));
    EXPECT_EQ(testing::raw_state(ctx_.get()), before);
}

TEST_F(Managed, ThePositionsThatCannotBeCutAreTold) {
    ASSERT_EQ(feed(0, 200), 0);
    EXPECT_EQ(managed_->pos_min(0), 0);
    feed_all(600, 200);
    settle();
    const llama_pos smallest = managed_->pos_min(0);
    EXPECT_GT(smallest, 100);
    ASSERT_TRUE(managed_->remove(0, smallest + 1, -1)); // the first cut that is possible
    EXPECT_EQ(managed_->state()["totals"]["rereads"], 0);
}

TEST_F(Managed, ASavedStateBringsItsTokensBack) {
    feed_all(600);
    settle();
    const size_t cells = real_cells();
    std::vector<uint8_t> bytes(managed_->state_size(0, LLAMA_STATE_SEQ_FLAGS_NONE));
    ASSERT_EQ(managed_->get_state(bytes.data(), bytes.size(), 0, LLAMA_STATE_SEQ_FLAGS_NONE), bytes.size());
    ASSERT_TRUE(managed_->remove(0, -1, -1));
    EXPECT_TRUE(managed_->state()["sequences"].empty());
    ASSERT_EQ(managed_->set_state(bytes.data(), bytes.size(), 1, LLAMA_STATE_SEQ_FLAGS_NONE), bytes.size());
    EXPECT_EQ(sequence()["id"], 1);
    EXPECT_EQ(sequence()["tokens_known"], true);
    EXPECT_EQ(sequence()["cells"], cells);

    bytes.back() ^= 1; // not what was saved: its tokens are not known
    managed_->set_state(bytes.data(), bytes.size(), 1, LLAMA_STATE_SEQ_FLAGS_NONE);
    EXPECT_EQ(sequence()["tokens_known"], false);
    EXPECT_EQ(sequence()["cells"], cells);
}

TEST_F(Managed, TheBooksAgreeWithTheCellsHoweverOftenASequenceIsFolded) {
    managed_->set_policy({});
    ASSERT_EQ(feed(0, 300), 0);
    for (llama_pos end = 300; end < 340; end += 10) {
        const auto job = managed_->compact(0, *find_method("select"), 2);
        ASSERT_TRUE(job) << job.error().message;
        settle();
        ASSERT_TRUE(managed_->job(*job)->status);
        EXPECT_EQ(sequence()["cells"], real_cells()) << "at " << end;
        ASSERT_EQ(feed(end, end + 10), 0);
    }
    EXPECT_EQ(sequence()["cells"], real_cells());
}

TEST_F(Managed, ASequenceOfUnknownTokensIsStudiedByGeneration) {
    managed_->set_policy({});
    ASSERT_EQ(feed(0, 200), 0);
    std::vector<uint8_t> bytes = testing::raw_state(ctx_.get()); // saved behind kvfold's back
    ASSERT_EQ(managed_->set_state(bytes.data(), bytes.size(), 0, LLAMA_STATE_SEQ_FLAGS_NONE), bytes.size());
    EXPECT_EQ(sequence()["tokens_known"], false);
    const auto job = managed_->compact(0, *find_method("refine"), 4);
    ASSERT_TRUE(job) << job.error().message;
    settle();
    EXPECT_TRUE(managed_->job(*job)->status);
    EXPECT_EQ(managed_->job(*job)->method, "generation");
    EXPECT_EQ(real_cells(), 50u);
}

TEST_F(Managed, ASlotFileBringsItsTokensAndItsFoldBack) {
    feed_all(600);
    settle();
    const Json before = sequence();
    const auto path =
        std::filesystem::temp_directory_path() / kvfold::format("kvfold-preload-{}.slot", ::getpid());
    ASSERT_GT(managed_->save_file(path.c_str(), 0, tokens_.data(), 600), 0u);
    ASSERT_TRUE(managed_->remove(0, -1, -1));
    std::vector<llama_token> tokens(600);
    size_t count = 0;
    ASSERT_GT(managed_->load_file(path.c_str(), 0, tokens.data(), tokens.size(), &count), 0u);
    std::filesystem::remove(path);
    EXPECT_EQ(sequence()["tokens_known"], true);
    EXPECT_EQ(sequence()["cells"], before["cells"]);
    EXPECT_GE(sequence()["folded_tokens"].get<int>() + 64, before["folded_tokens"].get<int>());
}

TEST_F(Managed, ACutBelowARunningFoldVoidsIt) {
    managed_->set_policy({});
    ASSERT_EQ(feed(0, 400), 0);
    const auto job = managed_->compact(0, *find_method("solver"), 4);
    ASSERT_TRUE(job);
    ASSERT_TRUE(managed_->remove(0, 50, -1));
    while (!managed_->job(*job)->done)
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const JobResult result = *managed_->job(*job);
    ASSERT_FALSE(result.status);
    EXPECT_EQ(result.status.error().code, ErrorCode::cancelled);
    EXPECT_EQ(real_cells(), 50u);
}

TEST_F(Managed, TwoSequencesShareTheCells) {
    for (llama_pos pos = 0; pos < 640; pos += 64) {
        ASSERT_EQ(feed(pos, pos + 64, 0), 0);
        ASSERT_EQ(feed(pos, pos + 64, 1), 0);
    }
    settle();
    EXPECT_LE(real_cells(0) + real_cells(1), kCells);
    EXPECT_EQ(sequence(0)["tokens"], 640);
    EXPECT_EQ(sequence(1)["tokens"], 640);
}

TEST_F(Managed, MovedPositionsAreCountedAndTheirTokensForgotten) {
    manage({});
    ASSERT_EQ(feed(0, 100), 0);
    ASSERT_TRUE(managed_->remove(0, 40, 50));
    managed_->move_positions(0, [&] { llama_memory_seq_add(llama_get_memory(ctx_.get()), 0, 50, -1, -10); });
    EXPECT_EQ(sequence()["tokens"], 90);
    EXPECT_EQ(sequence()["cells"], 90);
    EXPECT_EQ(sequence()["tokens_known"], false);
    EXPECT_TRUE(managed_->can_shift());
    managed_->set_policy(folding());
    EXPECT_FALSE(managed_->can_shift());
}

TEST_F(Managed, InASplitCacheEachSequenceFoldsInItsOwnHalf) {
    manage(folding(), /*unified=*/false);
    for (llama_pos pos = 0; pos < 512; pos += 64)
        ASSERT_EQ(feed(pos, pos + 64, 1), 0);
    for (llama_pos pos = 0; pos < 128; pos += 64)
        ASSERT_EQ(feed(pos, pos + 64, 0), 0);
    settle();
    while (sequence(1)["folding"].get<bool>())
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_EQ(real_cells(0), 128u); // never folded
    EXPECT_LE(real_cells(1), kCells / 2);
    EXPECT_EQ(sequence(1)["tokens"], 512);
}

TEST_F(Managed, AnUnknownSlotARunningFoldAndARatioWithoutRoomAreErrors) {
    managed_->set_policy({});
    EXPECT_FALSE(managed_->compact(0, &default_method(), 4));
    ASSERT_EQ(feed(0, 300), 0);
    EXPECT_FALSE(managed_->compact(1, &default_method(), 4));
    EXPECT_FALSE(managed_->compact(0, &default_method(), 300));
    EXPECT_EQ(real_cells(), 300u);
    ASSERT_TRUE(managed_->compact(0, &default_method(), 4));
    EXPECT_FALSE(managed_->compact(0, &default_method(), 4));
}

} // namespace
} // namespace kvfold::preload
