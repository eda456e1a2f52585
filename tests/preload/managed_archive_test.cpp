// What folds replaced comes back when a program cuts inside of them: byte for byte, and no token is read
// again.
#include "preload/archived.h"

namespace kvfold::preload {
namespace {

TEST_F(Archived, ACutInsideAFoldGivesTheOriginalCellsBack) {
    feed_all(300);
    const KvSection before = cells();
    fold();
    ASSERT_LT(real_cells(), 100u);
    EXPECT_EQ(program_->pos_min(0), 0); // the program may cut wherever it likes
    ASSERT_TRUE(program_->remove(0, 200, -1));
    expect_same(before, cells(), 200);
    EXPECT_EQ(real_cells(), 200u);
    EXPECT_EQ(sequence()["cells"], 200);
    EXPECT_EQ(sequence()["tokens"], 200);
    EXPECT_EQ(sequence()["tokens_known"], true);
    EXPECT_EQ(sequence()["folded_cells"], 0);
    EXPECT_EQ(total("taken_back"), 1);
    EXPECT_EQ(total("rereads"), 0);
    EXPECT_EQ(total("tokens_decoded"), 300);
    ASSERT_EQ(feed(200, 264), 0); // and the sequence goes on
    EXPECT_EQ(real_cells(), 264u);
}

TEST_F(Archived, EachFoldGivesBackWhatStoodBeforeIt) {
    feed_all(200);
    const KvSection plain = cells();
    fold();
    const llama_pos first_end = sequence()["folded_tokens"].get<llama_pos>() + 4;
    feed_all(400, 200);
    const KvSection folded_once = cells();
    fold();
    ASSERT_LT(real_cells(), 150u);
    EXPECT_EQ(program_->pos_min(0), 0);
    const llama_pos behind = first_end + 100, before = first_end - 50;
    ASSERT_TRUE(program_->remove(0, behind, -1)); // what the first fold made stays
    expect_same(folded_once, cells(), behind);
    EXPECT_EQ(program_->pos_min(0), 0);
    EXPECT_EQ(real_cells(), order_of(folded_once, behind).size());
    ASSERT_TRUE(program_->remove(0, before, -1));
    expect_same(plain, cells(), before);
    EXPECT_EQ(real_cells(), static_cast<size_t>(before));
    EXPECT_EQ(total("rereads"), 0);
    EXPECT_EQ(total("taken_back"), 2);
}

TEST_F(Archived, AFullArchiveForgetsTheOldestFold) {
    feed_all(200);
    fold();
    const size_t one = total("archive_bytes").get<size_t>();
    ASSERT_GT(one, 0u);
    manage({}, /*unified=*/true, one + one / 2);
    feed_all(200);
    fold();
    const llama_pos first_end = sequence()["folded_tokens"].get<llama_pos>() + 4;
    feed_all(400, 200);
    fold();
    EXPECT_LE(total("archive_bytes"), one + one / 2);
    EXPECT_EQ(program_->pos_min(0), first_end - 1); // how far back the program is told to go
    ASSERT_TRUE(program_->remove(0, first_end + 50, -1));
    EXPECT_EQ(total("rereads"), 0);
    ASSERT_TRUE(program_->remove(0, first_end - 50, -1));
    EXPECT_EQ(total("rereads"), 1); // it must be read again
    EXPECT_EQ(sequence()["tokens"], first_end - 50);
}

TEST_F(Archived, WhatNobodyHoldsAnyMoreTakesNoMemory) {
    feed_all(300);
    fold();
    ASSERT_GT(total("archive_bytes"), 0);
    ASSERT_TRUE(program_->remove(0, -1, -1));
    EXPECT_EQ(total("archive_bytes"), 0);
}

TEST_F(Archived, ARestoredStateBringsItsOwn) {
    feed_all(300);
    const KvSection before = cells();
    fold();
    const std::vector<uint8_t> saved = program_->saved_state(0);
    ASSERT_TRUE(program_->remove(0, -1, -1));
    ASSERT_EQ(feed(0, 64, 1), 0);
    ASSERT_GT(program_->restore_state(saved, 0), 0u);
    EXPECT_EQ(program_->pos_min(0), 0);
    ASSERT_TRUE(program_->remove(0, 150, -1));
    expect_same(before, cells(), 150);
    EXPECT_EQ(real_cells(), 150u);
    EXPECT_EQ(total("rereads"), 0);
}

TEST_F(Archived, SequencesThatShareAFoldTakeItBackEachForItself) {
    feed_all(200);
    const KvSection before = cells();
    program_->copy(0, 1, -1, -1);
    fold();
    const size_t folded = real_cells();
    ASSERT_TRUE(program_->remove(1, 120, -1));
    EXPECT_EQ(real_cells(0), folded);
    EXPECT_EQ(real_cells(1), 120u);
    expect_same(before, cells(1), 120);
    ASSERT_TRUE(program_->remove(0, 100, -1));
    expect_same(before, cells(0), 100);
    EXPECT_EQ(total("cells_used"), 220);
    EXPECT_EQ(total("rereads"), 0);
}

// What folds that lean on cells in front of them replaced is not kept: those may go, or be folded themselves.
class BehindABeginning : public Archived {
  protected:
    void SetUp() override {
        Archived::SetUp();
        if (HasFatalFailure()) return;
        feed_all(100);
        program_->copy(0, 1, -1, -1);
        feed_all(300, 100); // of its own
        before_ = cells();
        fold(); // the part that has more cells
    }

    // Whatever it takes, the sequence holds what it held before that position.
    void expect_cut(llama_pos end, llama_seq_id seq_id = 0) {
        ASSERT_TRUE(program_->remove(seq_id, end, -1));
        const KvSection now = cells(seq_id);
        const auto ours = order_of(now, end);
        ASSERT_EQ(now.cells.size(), static_cast<size_t>(end));
        for (llama_pos pos = 0; pos < end; ++pos)
            EXPECT_EQ(now.cells[ours[static_cast<size_t>(pos)]].pos, pos);
    }

    // To the cell, and those of the other sequence.
    void expect_books_agree() {
        const Json state = managed_->state();
        for (const Json& each : state["sequences"])
            EXPECT_EQ(each["cells"], real_cells(each["id"].get<llama_seq_id>()));
    }

    KvSection before_;
};

TEST_F(BehindABeginning, ACutReadsAgainAndTheOtherKeepsIt) {
    EXPECT_GT(program_->pos_min(0), 180);
    expect_cut(180);
    EXPECT_EQ(real_cells(1), 100u);
    EXPECT_EQ(total("rereads"), 1);
    expect_books_agree();
}

TEST_F(BehindABeginning, TheBeginningCanBeFoldedAfterwardsAndTakenBack) {
    fold(); // the beginning now
    EXPECT_LT(real_cells(1), 100u);
    expect_books_agree();
    fold(); // and once more, whichever has more cells
    expect_books_agree();
    ASSERT_EQ(real_cells(1), sequence(1)["cells"]);
    expect_cut(50);
    expect_same(before_, cells(), 50);
    EXPECT_EQ(total("rereads"), 0);
    EXPECT_LT(real_cells(1), 100u); // the other has its fold still
    expect_cut(40, 1);
    expect_same(before_, cells(1), 40);
    expect_books_agree();
}

TEST_F(BehindABeginning, WhenTheOtherLeavesAllOfItIsFoldedAndCutRight) {
    ASSERT_TRUE(program_->remove(1, -1, -1));
    feed_all(380, 300);
    fold();
    expect_books_agree();
    expect_cut(150);
    expect_books_agree();
}

// The first fold stands behind a beginning still, and is one: what is behind it comes back, and a cut inside
// of it is read again.
TEST_F(BehindABeginning, WhatIsUndoneBehindItLeavesItAFold) {
    for (const bool is_cut : {true, false}) {
        if (!is_cut) SetUp();
        const llama_pos first_end = program_->pos_min(0) + 1;
        ASSERT_GT(first_end, 180);
        ASSERT_TRUE(program_->remove(1, -1, -1));
        feed_all(400, 300);
        fold();
        ASSERT_EQ(program_->pos_min(0), first_end - 1); // it may be cut behind the first fold
        if (is_cut)
            ASSERT_TRUE(program_->remove(0, first_end + 20, -1));
        else
            ASSERT_TRUE(managed_->unfold(0));
        EXPECT_GT(sequence()["folded_cells"], 0);
        EXPECT_EQ(program_->pos_min(0), first_end - 1);
        expect_books_agree();
        expect_cut(150);
        EXPECT_EQ(total("rereads"), 1);
        expect_books_agree();
    }
}

TEST_F(BehindABeginning, ASavedStateIsCutRight) {
    const std::vector<uint8_t> saved = program_->saved_state(0);
    ASSERT_TRUE(program_->remove(0, -1, -1));
    ASSERT_GT(program_->restore_state(saved, 0), 0u);
    expect_cut(150);
    expect_books_agree();
}

// Then what folds replaced is more than fits at once, and no study could ask from newer cells: the folded
// cells are folded.
TEST_F(Archived, WithoutATailMoreThanTheCellsIsFoldedAllTheSame) {
    Policy policy = folding();
    policy.keep_last = 0;
    manage(policy, /*unified=*/true, kPlenty);
    feed_all(3 * kCells);
    settle();
    EXPECT_EQ(total("failures"), 0);
    EXPECT_EQ(sequence()["tokens"], 3 * kCells);
    EXPECT_EQ(sequence()["cells"], real_cells());
}

// keep_last makes no cells: the program must hear of the fold all the same, and never go on from a hole.
TEST_F(Archived, ADroppedMiddleBehindASharedBeginningIsAFold) {
    manage({}, /*unified=*/true, 0);
    feed_all(2);
    program_->copy(0, 1, -1, -1);
    feed_all(200, 2);
    const auto job = managed_->compact(0, &methods::keep_last, 4);
    ASSERT_TRUE(job) << job.error().message;
    settle();
    ASSERT_LT(real_cells(), 60u);
    EXPECT_GT(program_->pos_min(0), 100);
    ASSERT_TRUE(program_->remove(0, 53, -1));
    EXPECT_EQ(real_cells(), 53u);
    EXPECT_EQ(total("rereads"), 1);
}

// 500 cells of 512, and the other sequence grows meanwhile.
TEST_F(Archived, WhatHasNoRoomIsFoldedAnewAndNotReadAgain) {
    manage(folding(), /*unified=*/true, kPlenty);
    feed_all(1200);
    settle();
    const llama_pos end = 900;
    const size_t decoded = total("tokens_decoded").get<size_t>();
    ASSERT_EQ(feed(0, 300, 1), 0);
    settle();
    ASSERT_TRUE(program_->remove(0, end, -1));
    EXPECT_EQ(sequence()["tokens"], end);
    EXPECT_EQ(total("rereads"), 0);
    EXPECT_EQ(total("tokens_decoded"), decoded + 300);
    EXPECT_LE(total("cells_used"), kCells);
    EXPECT_EQ(sequence()["cells"], real_cells());
    EXPECT_EQ(program_->pos_min(0), 0);
    ASSERT_TRUE(program_->remove(0, 100, -1));
    EXPECT_EQ(real_cells(), 100u);
    EXPECT_EQ(total("rereads"), 0);
}

// What the sequence itself holds goes anyway: others are folded for it, and not itself.
TEST_F(Archived, ForWhatComesBackOthersAreFolded) {
    feed_all(400);
    fold();
    ASSERT_EQ(feed(0, 200, 1), 0);
    ASSERT_EQ(feed(200, 380, 1), 0);
    ASSERT_TRUE(managed_->set_policy(folding()));
    const auto folds = total("folds").get<size_t>();
    ASSERT_TRUE(program_->remove(0, 370, -1));
    settle();
    EXPECT_EQ(total("folds"), folds + 1);
    EXPECT_EQ(sequence(0)["folded_cells"], 0);
    EXPECT_GT(sequence(1)["folded_cells"], 0);
}

// As if it had been folded once, from the cells that the program computed.
TEST_F(Archived, AFoldOfAFoldIsMadeOfTheOriginals) {
    feed_all(400);
    const std::vector<uint8_t> plain = program_->saved_state(0);
    fold(8);
    const size_t once = real_cells();
    fold(2); // all of it
    const KvSection twice = cells();
    EXPECT_LT(real_cells(), once);
    EXPECT_EQ(program_->pos_min(0), 0);
    ASSERT_TRUE(program_->remove(0, 200, -1));
    EXPECT_EQ(real_cells(), 200u);
    ASSERT_TRUE(program_->remove(0, -1, -1));
    ASSERT_GT(program_->restore_state(plain, 0), 0u);
    const auto job = managed_->compact(0, &methods::select, 400.0 / static_cast<double>(twice.cells.size()));
    ASSERT_TRUE(job) << job.error().message;
    settle();
    const KvSection at_once = cells();
    ASSERT_EQ(at_once.cells.size(), twice.cells.size());
    expect_same(at_once, twice, 400);
    manage({}, /*unified=*/true, /*archive_bytes=*/0); // broken twin: of what the first fold made
    ASSERT_GT(program_->restore_state(plain, 0), 0u);
    fold(8);
    fold(2);
    EXPECT_NE(cells().values.front().bytes, twice.values.front().bytes);
}

// Nothing is written where nothing can come back, and what sequences share stays shared.
TEST_F(Archived, WhatHasNoRoomIsNotTakenBackAndStaysShared) {
    feed_all(400);
    fold();
    program_->copy(0, 1, -1, -1);
    for (llama_pos pos = 400; pos < 600; pos += 50)
        ASSERT_EQ(feed(pos, pos + 50, 1), 0);
    const auto used = total("cells_used");
    const size_t folded = real_cells();
    ASSERT_GT(300u, kCells - used.get<size_t>());
    EXPECT_FALSE(program_->remove(0, 300, -1));
    EXPECT_EQ(total("cells_used"), used);
    EXPECT_EQ(real_cells(0), folded);
    EXPECT_EQ(real_cells(1), folded + 200);
    EXPECT_EQ(program_->pos_min(1), program_->pos_min(0));
    ASSERT_TRUE(program_->remove(1, -1, -1)); // and it can be taken back when there is room
    ASSERT_TRUE(program_->remove(0, 300, -1));
    EXPECT_EQ(real_cells(0), 300u);
    EXPECT_EQ(total("rereads"), 0);
}

// What the older fold made was more than what stands there now.
TEST_F(Archived, NoCutIsPromisedThatHasNoRoom) {
    feed_all(300);
    fold(2);
    manage({}, /*unified=*/true, total("archive_bytes").get<size_t>() + (size_t{1} << 16)); // of one fold
    feed_all(300);
    fold(2);
    feed_all(400, 300);
    fold(8);
    ASSERT_GT(program_->pos_min(0), 200); // the older fold has lost its cells
    EXPECT_LT(program_->pos_min(0), 350);
    for (llama_pos pos = 0; pos < 300; pos += 60)
        ASSERT_EQ(feed(pos, pos + 60, 1), 0);
    EXPECT_GT(program_->pos_min(0), 350);
}

// As many of the newest as there is room for.
TEST_F(Archived, FoldsAreUndoneAsFarAsThereIsRoom) {
    feed_all(300);
    fold(8);
    feed_all(400, 300);
    const KvSection folded_once = cells();
    fold();
    ASSERT_EQ(feed(0, 200, 1), 0);
    const auto count = managed_->unfold(0);
    ASSERT_TRUE(count) << count.error().message;
    EXPECT_EQ(*count, folded_once.cells.size());
    expect_same(folded_once, cells(), 400);
    EXPECT_GT(sequence()["folded_cells"], 0);
    ASSERT_TRUE(program_->remove(1, -1, -1));
    EXPECT_EQ(managed_->unfold(0).value(), 400u);
}

TEST_F(Archived, UnfoldingPutsEverythingBack) {
    feed_all(200);
    const KvSection before = cells();
    fold();
    feed_all(300, 200);
    fold();
    const auto count = managed_->unfold(0);
    ASSERT_TRUE(count) << count.error().message;
    EXPECT_EQ(*count, 300u);
    EXPECT_EQ(real_cells(), 300u);
    expect_same(before, cells(), 200);
    EXPECT_EQ(sequence()["folded_cells"], 0);
    EXPECT_EQ(sequence()["tokens_known"], true);
    EXPECT_EQ(managed_->unfold(0).error().code, ErrorCode::invalid_argument); // nothing is folded now
    EXPECT_EQ(managed_->unfold(1).error().code, ErrorCode::not_found);
}

TEST_F(Archived, WhatHasNoRoomIsNotUnfolded) {
    feed_all(400);
    fold();
    ASSERT_EQ(feed(0, 200, 1), 0);
    const size_t before = real_cells();
    EXPECT_EQ(managed_->unfold(0).error().code, ErrorCode::busy);
    EXPECT_EQ(real_cells(), before);
    ASSERT_TRUE(program_->remove(1, -1, -1));
    EXPECT_TRUE(managed_->unfold(0));
}

TEST_F(Archived, WithoutAnArchiveTheTokensAreReadAgain) {
    manage({}, /*unified=*/true, 0);
    feed_all(300);
    fold();
    EXPECT_GT(program_->pos_min(0), 200);
    ASSERT_TRUE(program_->remove(0, 200, -1));
    EXPECT_EQ(total("rereads"), 1);
    EXPECT_EQ(total("taken_back"), 0);
    EXPECT_EQ(total("archive_bytes"), 0);
}

} // namespace
} // namespace kvfold::preload
