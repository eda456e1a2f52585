// The bookkeeping and folding of a managed context against what llama.cpp itself holds.
#include "preload/managed.h"

#include <thread>

namespace kvfold::preload {
namespace {

TEST_F(Managed, APromptThreeTimesTheCellsGoesIn) {
    feed_all(3 * kCells);
    settle();
    EXPECT_EQ(sequence()["tokens"], 3 * kCells);
    EXPECT_LE(real_cells(), kCells);
    EXPECT_EQ(sequence()["cells"], real_cells());
    EXPECT_GT(managed_->state()["totals"]["folds"], 1);
    EXPECT_EQ(program_->end(0), 3 * kCells);
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
    const auto before = program_->read(0);
    settle();
    ASSERT_TRUE(managed_->job(*job)->done);
    ASSERT_TRUE(managed_->job(*job)->status);
    const auto after = program_->read(0);
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
    ASSERT_TRUE(program_->remove(0, 100, -1));
    EXPECT_EQ(sequence()["tokens"], 100);
    EXPECT_EQ(real_cells(), 100u);
    EXPECT_EQ(managed_->state()["totals"]["rereads"], 1);
    ASSERT_EQ(feed(100, 101), 0);
    const std::vector<float> reread = last_logits(ctx_.get());

    const auto fresh = testing::make_context(model_, {.n_ctx = kCells});
    ASSERT_EQ(decode(fresh.get(), {tokens_.begin(), tokens_.begin() + 101}, 0), 0);
    EXPECT_LT(testing::kl_divergence(last_logits(fresh.get()), reread), 0.02); // batches differ
}

TEST_F(Managed, ARemovalAmidAFoldTakesItsShareOfTheCells) {
    feed_all(600);
    settle();
    const size_t before = real_cells();
    const llama_pos folded = program_->pos_min(0) + 1;
    ASSERT_TRUE(program_->remove(0, 100, 200));
    const auto gone = static_cast<double>(before - real_cells());
    const size_t in_fold = sequence()["folded_cells"].get<size_t>() + static_cast<size_t>(gone);
    EXPECT_NEAR(gone, 100.0 * static_cast<double>(in_fold) / folded, 2);
    EXPECT_EQ(sequence()["cells"], real_cells());
    EXPECT_EQ(sequence()["tokens"], 600);
    EXPECT_EQ(sequence()["tokens_known"], false);
    // As programs do when a context is full: what is behind moves up, and the text goes on.
    program_->add(0, 200, -1, -100);
    EXPECT_EQ(sequence()["tokens"], 500);
    ASSERT_EQ(feed(500, 501), 0);
    EXPECT_EQ(sequence()["cells"], real_cells());
    EXPECT_EQ(program_->pos_min(0), folded - 1 - 100);
}

// As llama-server's --context-shift does it, which keeps no tokens unless it is told to.
TEST_F(Managed, ARemovalOfTheBeginningTakesItsShareOfTheFold) {
    for (const bool takes_all : {false, true}) {
        manage(folding());
        feed_all(600);
        settle();
        const llama_pos folded = program_->pos_min(0) + 1, gone = takes_all ? folded + 20 : folded / 2;
        ASSERT_LT(gone, 600);
        ASSERT_TRUE(program_->remove(0, 0, gone));
        EXPECT_EQ(sequence()["cells"], real_cells());
        program_->add(0, gone, -1, -gone);
        EXPECT_EQ(sequence()["tokens"], 600 - gone);
        ASSERT_EQ(feed(600 - gone, 601 - gone), 0);
        EXPECT_EQ(sequence()["cells"], real_cells());
        EXPECT_GT(real_cells(), 20u);
    }
}

TEST_F(Managed, ARemovalThatTakesTheEndOfAFoldEndsItBefore) {
    feed_all(600);
    settle();
    const llama_pos folded = program_->pos_min(0) + 1;
    ASSERT_TRUE(program_->remove(0, 50, folded + 10));
    EXPECT_EQ(program_->pos_min(0), 49);
    program_->add(0, folded + 10, -1, 50 - (folded + 10));
    const llama_pos end = 600 - (folded + 10 - 50);
    EXPECT_EQ(sequence()["tokens"], end);
    ASSERT_EQ(feed(end, end + 1), 0);
    EXPECT_EQ(sequence()["cells"], real_cells());
}

TEST_F(Managed, ThePositionsThatCannotBeCutAreTold) {
    ASSERT_EQ(feed(0, 200), 0);
    EXPECT_EQ(program_->pos_min(0), 0);
    feed_all(600, 200);
    settle();
    const llama_pos smallest = program_->pos_min(0);
    EXPECT_GT(smallest, 100);
    ASSERT_TRUE(program_->remove(0, smallest + 1, -1)); // the first cut that is possible
    EXPECT_EQ(managed_->state()["totals"]["rereads"], 0);
}

TEST_F(Managed, AFoldOfTheSameTokensTellsWhereADraftOfThemCanBeCut) {
    feed_all(600);
    settle();
    std::vector<llama_token> tokens(tokens_.begin(), tokens_.begin() + 700); // the draft may be ahead
    const llama_pos end = program_->pos_min(0) + 1;
    EXPECT_EQ(managed_->first_cut(0, tokens), end);
    EXPECT_EQ(managed_->first_cut(0, std::span(tokens).first(10)), end); // the other was cut already
    EXPECT_EQ(managed_->first_cut(1, tokens), 0);
    tokens[100] = LLAMA_TOKEN_NULL; // not known: it may be the same
    EXPECT_EQ(managed_->first_cut(0, tokens), end);
    tokens[100] = tokens_[100] + 1;
    EXPECT_EQ(managed_->first_cut(0, tokens), 0);
}

TEST_F(Managed, TheBooksAgreeWithTheCellsHoweverOftenASequenceIsFolded) {
    ASSERT_TRUE(managed_->set_policy({}));
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
    ASSERT_TRUE(managed_->set_policy({}));
    ASSERT_EQ(feed(0, 200), 0);
    std::vector<uint8_t> bytes = testing::raw_state(ctx_.get()); // saved behind kvfold's back
    ASSERT_EQ(program_->restore_state(bytes, 0), bytes.size());
    EXPECT_EQ(sequence()["tokens_known"], false);
    const auto job = managed_->compact(0, *find_method("refine"), 4);
    ASSERT_TRUE(job) << job.error().message;
    settle();
    EXPECT_TRUE(managed_->job(*job)->status);
    EXPECT_EQ(managed_->job(*job)->method, "generation");
    EXPECT_EQ(real_cells(), 50u);
}

TEST_F(Managed, ACutBelowARunningFoldVoidsIt) {
    ASSERT_TRUE(managed_->set_policy({}));
    ASSERT_EQ(feed(0, 400), 0);
    const auto job = managed_->compact(0, *find_method("solver"), 4);
    ASSERT_TRUE(job);
    ASSERT_TRUE(program_->remove(0, 50, -1));
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

TEST_F(Managed, MovedPositionsAreCountedAndTheirTokensGoAlong) {
    manage({});
    ASSERT_EQ(feed(0, 100), 0);
    ASSERT_TRUE(program_->remove(0, 40, 50));
    program_->add(0, 50, -1, -10);
    ASSERT_EQ(feed(90, 91), 0); // llama.cpp moves the keys now
    EXPECT_EQ(sequence()["tokens"], 91);
    EXPECT_EQ(sequence()["cells"], 91);
    EXPECT_EQ(sequence()["tokens_known"], true);
}

TEST_F(Managed, InASplitCacheEachSequenceFoldsInItsOwnHalf) {
    manage(folding(), /*unified=*/false);
    for (llama_pos pos = 0; pos < 512; pos += 64)
        ASSERT_EQ(feed(pos, pos + 64, 1), 0);
    for (llama_pos pos = 0; pos < 128; pos += 64)
        ASSERT_EQ(feed(pos, pos + 64, 0), 0);
    settle();
    EXPECT_EQ(real_cells(0), 128u); // never folded
    EXPECT_LE(real_cells(1), kCells / 2);
    EXPECT_EQ(sequence(1)["tokens"], 512);
}

TEST_F(Managed, AnUnknownSlotARunningFoldAndARatioWithoutRoomAreErrors) {
    ASSERT_TRUE(managed_->set_policy({}));
    EXPECT_FALSE(managed_->compact(0, &default_method(), 4));
    ASSERT_EQ(feed(0, 300), 0);
    EXPECT_FALSE(managed_->compact(1, &default_method(), 4));
    EXPECT_FALSE(managed_->compact(0, &default_method(), 300));
    EXPECT_EQ(real_cells(), 300u);
    ASSERT_TRUE(managed_->compact(0, &default_method(), 4));
    EXPECT_FALSE(managed_->compact(0, &default_method(), 4));
}

TEST_F(Managed, SequencesThatShareTheirCellsNeedNoFoldWhileThereIsRoom) {
    ASSERT_EQ(feed(0, 300), 0);
    program_->copy(0, 1, -1, -1);
    for (llama_pos pos = 300; pos < 330; ++pos) {
        Batch batch(2);
        batch.add(tokens_[static_cast<size_t>(pos)], pos, {0}, true);
        batch.add(tokens_[static_cast<size_t>(pos)], pos, {1}, true);
        ASSERT_EQ(feed(batch), 0);
    }
    EXPECT_EQ(managed_->state()["totals"]["folds"], 0);
    EXPECT_EQ(real_cells(0), 330u);
    EXPECT_EQ(real_cells(1), 330u);
}

TEST_F(Managed, ASharedBeginningIsFoldedForBothAndStaysShared) {
    ASSERT_TRUE(managed_->set_policy({}));
    ASSERT_EQ(feed(0, 300), 0);
    program_->copy(0, 1, -1, -1);
    ASSERT_EQ(feed(300, 320, 0), 0);
    ASSERT_EQ(feed(300, 340, 1), 0);
    const std::vector<float> full = last_logits(ctx_.get());
    const auto job = managed_->compact(0, *find_method("select"), 4);
    ASSERT_TRUE(job) << job.error().message;
    settle();
    ASSERT_TRUE(managed_->job(*job)->status) << managed_->job(*job)->status.error().message;
    const size_t left = real_cells(0) - 20;
    EXPECT_LT(left, 100u);
    EXPECT_EQ(real_cells(1), left + 40);
    EXPECT_EQ(sequence(0)["cells"], left + 20);
    EXPECT_EQ(sequence(1)["cells"], left + 40);
    // Shared: both grow until the cells are full, which they would not have room for apart.
    const auto room = static_cast<llama_pos>(kCells - left - 60);
    EXPECT_EQ(feed(320, 320 + room, 0), 0);
    EXPECT_EQ(feed(340, 341, 1), 1);
    ASSERT_TRUE(program_->remove(0, 320, -1));
    ASSERT_EQ(feed(340, 341, 1), 0); // and the text of the other one makes sense still
    EXPECT_LT(testing::kl_divergence(full, last_logits(ctx_.get())), 5);
}

TEST_F(Managed, ABatchLargerThanTheCellsIsDecodedInParts) {
    ASSERT_EQ(feed(0, 1200), 0); // of 512 cells
    settle();
    EXPECT_EQ(sequence()["tokens"], 1200);
    EXPECT_EQ(sequence()["cells"], real_cells());
    EXPECT_EQ(kept_logits(1199), nullptr); // llama.cpp has it
    const int32_t index = index_in_last(1199);
    EXPECT_LT(index, 1199);
    EXPECT_EQ(llama_get_logits_ith(ctx_.get(), index), llama_get_logits_ith(ctx_.get(), -1));
    EXPECT_EQ(index_in_last(-1), -1);
    ASSERT_EQ(feed(1200, 1201), 0);
    EXPECT_EQ(index_in_last(0), 0);
}

// As of a server that reads a prompt while it answers another one: the answer's output is the first.
TEST_F(Managed, OutputsOfEarlierPartsAreKept) {
    feed_all(300);
    ASSERT_EQ(feed(0, 50, 1), 0);
    settle();
    const auto before = program_->saved_session();
    Batch alone(1);
    alone.add(tokens_[50], 50, {1}, true);
    ASSERT_EQ(feed(alone), 0);
    const std::vector<float> expected = last_logits(ctx_.get());
    program_->restore_session(before);
    Batch batch(401);
    batch.add(tokens_[50], 50, {1}, true);
    for (llama_pos pos = 300; pos < 700; ++pos)
        batch.add(tokens_[static_cast<size_t>(pos)], pos, {0}, pos == 699);
    ASSERT_EQ(feed(batch), 0);
    EXPECT_EQ(program_->end(0), 700);
    EXPECT_EQ(program_->end(1), 51);
    const float* kept = kept_logits(0);
    ASSERT_NE(kept, nullptr);
    EXPECT_EQ(kept_logits(-2), kept);
    EXPECT_LT(testing::kl_divergence(expected, {kept, kept + expected.size()}), 1e-3);
    EXPECT_GT(testing::kl_divergence(expected, last_logits(ctx_.get())), 1e-3);
}

// Whose outputs llama.cpp alone keeps, and only those of its newest batch.
TEST_F(Managed, ABatchThatCannotBePartedAndFindsNoRoomIsRefusedBeforeAnythingIsDecoded) {
    ASSERT_EQ(feed(0, 100), 0);
    const auto before = testing::raw_state(ctx_.get());
    Batch batch(700);
    for (llama_pos pos = 100; pos < 800; ++pos)
        batch.add(tokens_[static_cast<size_t>(pos)], pos, {0}, true);
    const auto expect_refused = [&] {
        EXPECT_EQ(feed(batch), 1);
        EXPECT_EQ(testing::raw_state(ctx_.get()), before);
        EXPECT_EQ(sequence()["tokens"], 100);
    };
    managed_->set_embeddings(true, [&] { llama_set_embeddings(ctx_.get(), true); });
    expect_refused();
    managed_->set_embeddings(false, [&] { llama_set_embeddings(ctx_.get(), false); });
    managed_->set_sampler(0, true, [] { return true; });
    expect_refused();
    managed_->set_sampler(0, true, [] { return false; }); // llama.cpp refused it
    EXPECT_EQ(feed(batch), 0);
    EXPECT_EQ(sequence()["tokens"], 800);
}

TEST_F(Managed, WhoReadsHiddenStatesHearsOfTheRealBatchAndHasItWhole) {
    EXPECT_GT(managed_->told_n_batch(), kCells);
    managed_->give_hidden_states();
    EXPECT_EQ(managed_->told_n_batch(), kCells);
    ASSERT_EQ(feed(0, 300), 0);
    EXPECT_EQ(feed(300, 600), 0); // more than a quarter of the cells: what stands there is folded
    EXPECT_EQ(index_in_last(299), 299);
}

// Nobody reads the outputs of what is read again.
TEST_F(Managed, WhatIsReadAgainIsPartedWhateverTheOutputs) {
    feed_all(1400);
    settle();
    managed_->give_hidden_states();
    managed_->set_sampler(0, true, [] { return true; });
    ASSERT_TRUE(program_->remove(0, 1100, -1));
    EXPECT_EQ(program_->end(0), 1100);
}

TEST_F(Managed, ABatchThatCannotBePartedGetsItsRoom) {
    managed_->set_embeddings(true, [&] { llama_set_embeddings(ctx_.get(), true); });
    feed_all(300);
    ASSERT_EQ(feed(0, 50, 1), 0);
    Batch batch(201);
    batch.add(tokens_[50], 50, {1}, true);
    for (llama_pos pos = 300; pos < 500; ++pos)
        batch.add(tokens_[static_cast<size_t>(pos)], pos, {0}, pos == 499);
    EXPECT_EQ(feed(batch), 0);
    EXPECT_EQ(program_->end(0), 500);
    EXPECT_EQ(program_->end(1), 51);
    EXPECT_EQ(index_in_last(200), 200);
}

TEST_F(Managed, ACutThatCannotBeReadAgainLeavesTheSequenceAsItWas) {
    feed_all(1400);
    settle();
    ASSERT_TRUE(managed_->set_policy({}));
    const llama_pos folded = program_->pos_min(0);
    ASSERT_GT(folded, static_cast<llama_pos>(kCells));
    const auto before = testing::raw_state(ctx_.get());
    EXPECT_FALSE(program_->remove(0, folded, -1)); // more tokens than cells, and nobody folds them
    EXPECT_EQ(testing::raw_state(ctx_.get()), before);
    EXPECT_EQ(sequence()["tokens"], 1400);
    EXPECT_EQ(feed(1400, 1401), 0);
}

TEST_F(Managed, APolicyThatCouldNeverFoldIsRefused) {
    Policy policy = folding();
    policy.keep_first = 600;
    const Status status = managed_->set_policy(policy);
    ASSERT_FALSE(status);
    EXPECT_NE(status.error().message.find("give keep_first up to"), std::string::npos);
    policy.automatic = false;
    EXPECT_TRUE(managed_->set_policy(policy));
}

TEST_F(Managed, OneSequencesSizeHoldsUpNoOtherOnesSwap) {
    ASSERT_TRUE(managed_->set_policy({}));
    ASSERT_EQ(feed(0, 200, 0), 0);
    ASSERT_EQ(feed(0, 100, 1), 0);
    const auto job = managed_->compact(0, *find_method("select"), 4);
    ASSERT_TRUE(job);
    // The size is asked for at once, and its bytes are taken when the swap waits for them.
    std::vector<uint8_t> bytes(program_->state_size(0));
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    (void)program_->state_size(1);
    EXPECT_EQ(program_->get_state(bytes, 0), bytes.size());
    settle();
    EXPECT_TRUE(managed_->job(*job)->status);
}

} // namespace
} // namespace kvfold::preload
