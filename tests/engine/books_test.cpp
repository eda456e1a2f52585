// What the books of sequences count and tell, by examples.
#include "engine/books.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

void decode(Books& books, llama_seq_id seq_id, llama_pos first, llama_pos end) {
    for (llama_pos pos = first; pos < end; ++pos)
        books.decode(pos, 100 + pos, {&seq_id, 1});
}

TEST(Books, HolesThatGoWithTheEndAreCountedNoMore) {
    Books books;
    decode(books, 0, 0, 100);
    books.remove(0, 10, 20);
    books.remove(0, 10, 20);
    EXPECT_EQ(books.cells(0), 90u);
    EXPECT_FALSE(books.knows_all_tokens(0));
    decode(books, 0, 15, 16);
    EXPECT_EQ(books.cells(0), 91u);
    books.remove(0, 5, -1);
    EXPECT_EQ(books.cells(0), 5u);
    EXPECT_EQ(books.end(0), 5);
}

TEST(Books, CellsThatFourSequencesOwnCountOnce) {
    Books books;
    decode(books, 0, 0, 100);
    for (const llama_seq_id other : {1, 2, 3})
        books.copy(0, other, -1, -1);
    EXPECT_EQ(books.used(0), 100u);
    EXPECT_EQ(books.cells(3), 100u);
    EXPECT_EQ(books.tokens(3), books.tokens(0));
    decode(books, 2, 100, 110);
    EXPECT_EQ(books.used(0), 110u);
    books.remove(0, -1, -1);
    EXPECT_EQ(books.used(0), 110u);
}

TEST(Books, ASharedBeginningIsFoldedOnceForAll) {
    Books books;
    decode(books, 0, 0, 100);
    books.copy(0, 1, -1, -1);
    decode(books, 0, 100, 130);
    decode(books, 1, 100, 150);
    const std::vector<Foldable> parts = books.foldable(0);
    ASSERT_EQ(parts.size(), 3u); // the beginning, and what each has behind it
    EXPECT_EQ(parts[0].cells, 100u);
    EXPECT_EQ(parts[0].behind, 30u);
    EXPECT_TRUE(parts[0].is_shared);
    EXPECT_EQ(parts[1].untouched, 100u);
    EXPECT_EQ(parts[1].cells, 30u);
    EXPECT_EQ(parts[2].seq_id, 1);
    EXPECT_EQ(parts[2].cells, 50u);

    books.fold(0, 89, 0, 12);
    EXPECT_EQ(books.used(0), 12u + 10 + 30 + 50);
    EXPECT_EQ(books.cells(1), 12u + 10 + 50);
    EXPECT_EQ(books.fold_of(1).end, 90);
    EXPECT_TRUE(books.knows_all_tokens(1));
    ASSERT_EQ(books.shared(0).size(), 1u);
    EXPECT_EQ(books.shared(0)[0].p0, 89);
    EXPECT_EQ(books.shared(0)[0].p1, 100);

    books.fold(1, 139, 22, 5); // its own part, behind what stays shared
    EXPECT_EQ(books.cells(1), 22u + 5 + 10);
    EXPECT_EQ(books.cells(0), 12u + 10 + 30);
    EXPECT_TRUE(books.tears_fold(1, 120, -1));
    EXPECT_FALSE(books.tears_fold(1, 100, -1)); // all that the second fold holds
    EXPECT_FALSE(books.tears_fold(1, 95, -1));
    EXPECT_TRUE(books.tears_fold(1, 80, -1));
}

TEST(Books, StreamsHaveTheirOwnCells) {
    Books books(2);
    decode(books, 0, 0, 50);
    decode(books, 1, 0, 20);
    EXPECT_EQ(books.used(0), 50u);
    EXPECT_EQ(books.used(1), 20u);
    books.copy(0, 1, -1, -1); // cells of its own, in place of those that it had
    EXPECT_EQ(books.used(1), 50u);
    books.remove(0, -1, -1);
    EXPECT_EQ(books.used(1), 50u);
    EXPECT_EQ(books.foldable(1).size(), 1u);
}

TEST(Books, WhatTheModelHasWrittenIsStillItsAnswerWhenItStandsThereAgain) {
    const llama_seq_id owner[] = {0};
    const std::vector<llama_pos> positions = {0, 1, 2, 3};
    for (const llama_token newest : {7, 8}) {
        Books books;
        for (const llama_pos pos : positions)
            books.decode(pos, 7, owner, /*is_answer=*/pos == 3);
        books.learn(0, positions, /*fold_end=*/0, {7, 7, 7, newest});
        EXPECT_EQ(books.ends_with_answer(0), newest == 7);
    }
}

TEST(Books, AFoldIsLearntByItsEnd) {
    Books books;
    std::vector<llama_pos> positions(12, 89);
    for (llama_pos pos = 90; pos < 100; ++pos)
        positions.push_back(pos);
    books.learn(0, positions, /*fold_end=*/90, std::vector<llama_token>(100, 7));
    EXPECT_EQ(books.cells(0), 22u);
    EXPECT_EQ(books.fold_of(0).end, 90);
    EXPECT_EQ(books.fold_of(0).cells, 12u);
    EXPECT_TRUE(books.knows_all_tokens(0));
    EXPECT_TRUE(books.tears_fold(0, 30, -1));
    EXPECT_TRUE(books.tears_fold(0, 30, 40));
    EXPECT_FALSE(books.tears_fold(0, 90, -1));
    EXPECT_FALSE(books.tears_fold(0, -1, -1));
    books.learn(0, std::vector<llama_pos>{0, 1, 2}, /*fold_end=*/0, {});
    EXPECT_TRUE(books.fold_of(0).empty());
    EXPECT_FALSE(books.knows_all_tokens(0));
}

TEST(Books, TheNewestAnswerIsWhatTheModelWroteLast) {
    Books books;
    const std::vector<llama_seq_id> own = {0};
    decode(books, 0, 0, 50);
    for (llama_pos pos = 50; pos < 60; ++pos)
        books.decode(pos, 7, own, /*is_answer=*/true);
    EXPECT_EQ(books.foldable_of(0).front().changing, 10u);
    decode(books, 0, 60, 70); // the next question
    EXPECT_EQ(books.foldable_of(0).front().changing, 0u);
    books.remove(0, 57, -1);
    EXPECT_EQ(books.foldable_of(0).front().changing, 7u);
}

TEST(Books, AMovedTextKeepsItsTokens) {
    Books books;
    decode(books, 0, 0, 100);
    books.remove(0, 0, 40);
    books.add(0, 40, -1, -40);
    EXPECT_EQ(books.end(0), 60);
    EXPECT_EQ(books.tokens(0).front(), 140);
    EXPECT_TRUE(books.knows_all_tokens(0));
    books.divide(0, -1, -1, 2);
    EXPECT_EQ(books.end(0), 30);
    EXPECT_EQ(books.cells(0), 60u);
    EXPECT_FALSE(books.knows_all_tokens(0));
}

TEST(Books, RecalledCellsAreNeitherFoldedNorShared) {
    Books books;
    decode(books, 0, 0, 100);
    books.fold(0, 79, 0, 20);
    const std::vector<Foldable> before = books.foldable_of(0);
    books.recall(0, 78, 5);
    EXPECT_EQ(books.cells(0), 45u);
    EXPECT_EQ(books.used(0), 45u);
    EXPECT_EQ(books.recalled(0).pos, 78);
    EXPECT_EQ(books.recalled(0).own, 5u);
    EXPECT_FALSE(books.stands_at(0, 78));
    EXPECT_TRUE(books.stands_at(0, 79));
    ASSERT_EQ(books.foldable_of(0).size(), before.size());
    EXPECT_EQ(books.foldable_of(0).front().cells, before.front().cells);
    EXPECT_EQ(books.foldable_of(0).front().folded, before.front().folded);
    EXPECT_TRUE(books.tears_fold(0, 79, -1));
    EXPECT_TRUE(books.tears_fold(0, 0, 79)); // the recalled ones, and not the fold behind them
    EXPECT_FALSE(books.tears_fold(0, 80, -1));

    books.copy(0, 1, -1, -1);
    EXPECT_EQ(books.recalled(1).cells, 5u);
    EXPECT_EQ(books.recalled(1).own, 0u);
    books.drop_recalled(0);
    EXPECT_EQ(books.recalled(0).cells, 0u);
    EXPECT_EQ(books.recalled(1).own, 5u);
    EXPECT_TRUE(books.has_same_owners(0, 99, 0)); // whoever recalls
    EXPECT_TRUE(books.shares_by_position(0));
    ASSERT_EQ(books.shared(0).size(), 1u);
    books.drop_recalled(1);
    EXPECT_EQ(books.used(0), 40u);
    EXPECT_EQ(books.end(1), 100);
}

} // namespace
} // namespace kvfold
