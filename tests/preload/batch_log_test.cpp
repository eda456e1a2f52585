#include "preload/batch_log.h"

#include <gtest/gtest.h>

namespace kvfold::preload {
namespace {

const llama_batch_ext* batch(int number) { // only its address matters
    static char addresses[4];
    return reinterpret_cast<const llama_batch_ext*>(&addresses[number]);
}

TEST(BatchLog, NotesTokensPositionsAndSequences) {
    BatchLog log;
    log.add(batch(0), 0, 2, 11);
    log.set_pos(batch(0), 0, 7);
    log.add_sequence(batch(0), 0, 3);
    log.add(batch(0), 1, 2, LLAMA_TOKEN_NULL);
    const auto entries = log.entries(batch(0));
    ASSERT_EQ(entries.size(), 2u);
    EXPECT_EQ(entries[0].token, 11);
    EXPECT_EQ(entries[0].pos, 7);
    EXPECT_EQ(entries[0].seq_ids, (std::vector<llama_seq_id>{2, 3}));
    EXPECT_EQ(entries[1].token, LLAMA_TOKEN_NULL);
    EXPECT_EQ(entries[1].pos, -1);
}

TEST(BatchLog, KeepsBatchesApartAndForgetsClearedOnes) {
    BatchLog log;
    log.add(batch(0), 0, 0, 1);
    log.add(batch(1), 0, 0, 2);
    log.clear(batch(0));
    EXPECT_TRUE(log.entries(batch(0)).empty());
    EXPECT_EQ(log.entries(batch(1)).size(), 1u);
    log.free(batch(1));
    EXPECT_TRUE(log.entries(batch(1)).empty());
}

TEST(BatchLog, WhatLlamaRefusedIsNotNoted) {
    BatchLog log;
    log.add(batch(0), -1, 0, 1);
    log.set_pos(batch(0), 5, 1);
    EXPECT_TRUE(log.entries(batch(0)).empty());
}

TEST(BatchLog, ReadsPlainBatches) {
    llama_batch plain = llama_batch_init(2, 0, 2);
    plain.n_tokens = 2;
    plain.token[0] = 4, plain.token[1] = 5;
    plain.pos[0] = 9, plain.pos[1] = 10;
    plain.n_seq_id[0] = 1, plain.n_seq_id[1] = 2;
    plain.seq_id[0][0] = 1, plain.seq_id[1][0] = 1, plain.seq_id[1][1] = 0;
    const auto entries = entries_of(plain);
    llama_batch_free(plain);
    ASSERT_EQ(entries.size(), 2u);
    EXPECT_EQ(entries[1].token, 5);
    EXPECT_EQ(entries[1].pos, 10);
    EXPECT_EQ(entries[1].seq_ids, (std::vector<llama_seq_id>{1, 0}));
    const auto one = entries_of(llama_batch_get_one(plain.token, 0));
    EXPECT_TRUE(one.empty());
}

} // namespace
} // namespace kvfold::preload
