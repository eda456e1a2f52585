#include "engine/sequence_log.h"

#include <gtest/gtest.h>

#include <numeric>

namespace kvfold {
namespace {

SequenceLog log_of(llama_pos count) {
    SequenceLog log;
    for (llama_pos pos = 0; pos < count; ++pos)
        log.set(pos, 100 + pos);
    return log;
}

// 100 positions; 4 to 63 are folded into 10 cells.
SequenceLog folded_log() {
    SequenceLog log = log_of(100);
    log.set_fold({4, 64, 10});
    return log;
}

TEST(SequenceLog, CountsOneCellATokenUntilItIsFolded) {
    EXPECT_EQ(log_of(100).cells(), 100u);
    EXPECT_EQ(folded_log().cells(), 50u);
    EXPECT_EQ(folded_log().end(), 100);
}

TEST(SequenceLog, CutsBehindTheFoldAndAtItsBeginningTearNothing) {
    const SequenceLog log = folded_log();
    EXPECT_FALSE(log.tears_fold(64, -1));
    EXPECT_FALSE(log.tears_fold(80, 90));
    EXPECT_FALSE(log.tears_fold(4, -1));
    EXPECT_FALSE(log.tears_fold(-1, -1));
    EXPECT_FALSE(log.tears_fold(0, 4));
}

TEST(SequenceLog, CutsInsideTheFoldTearIt) {
    const SequenceLog log = folded_log();
    EXPECT_TRUE(log.tears_fold(5, -1));
    EXPECT_TRUE(log.tears_fold(63, -1));
    EXPECT_TRUE(log.tears_fold(0, 10));
    EXPECT_TRUE(log.tears_fold(10, 20));
}

TEST(SequenceLog, RemovingTheEndKeepsTheFold) {
    SequenceLog log = folded_log();
    log.remove(80, -1);
    EXPECT_EQ(log.end(), 80);
    EXPECT_EQ(log.cells(), 30u);
    EXPECT_EQ(log.fold().cells, 10u);
}

TEST(SequenceLog, RemovingFromTheFoldsBeginningForgetsIt) {
    SequenceLog log = folded_log();
    log.remove(4, -1);
    EXPECT_EQ(log.cells(), 4u);
    EXPECT_TRUE(log.fold().empty());
}

TEST(SequenceLog, RemovingEverythingLeavesAnEmptyLog) {
    SequenceLog log = folded_log();
    log.remove(-1, -1);
    EXPECT_TRUE(log.empty());
    EXPECT_EQ(log.cells(), 0u);
}

TEST(SequenceLog, AHoleHasNoCellsAndItsTokensAreUnknown) {
    SequenceLog log = log_of(100);
    log.remove(10, 20);
    EXPECT_EQ(log.end(), 100);
    EXPECT_EQ(log.cells(), 90u);
    EXPECT_FALSE(log.knows_all_tokens());
}

TEST(SequenceLog, EmbeddingsAreUnknownTokens) {
    SequenceLog log = log_of(10);
    EXPECT_TRUE(log.knows_all_tokens());
    log.set(10, LLAMA_TOKEN_NULL);
    EXPECT_FALSE(log.knows_all_tokens());
}

TEST(SequenceLog, ACopyHasTheTokensAndTheFold) {
    SequenceLog copy;
    copy.copy(folded_log(), -1, -1);
    EXPECT_EQ(copy.tokens(), folded_log().tokens());
    EXPECT_EQ(copy.cells(), 50u);
    SequenceLog beginning;
    beginning.copy(folded_log(), 0, 4);
    EXPECT_EQ(beginning.end(), 4);
    EXPECT_TRUE(beginning.fold().empty());
}

TEST(SequenceLog, GapsInThePositionsOfAStateAreAFold) {
    // Head 0..3, folded cells at 4, 20, 41, 63, then 64..99.
    std::vector<llama_pos> positions = {0, 1, 2, 3, 4, 20, 41, 63};
    for (llama_pos pos = 64; pos < 100; ++pos)
        positions.push_back(pos);
    const SequenceLog log = SequenceLog::from_positions(positions, std::vector<llama_token>(100, 7));
    EXPECT_EQ(log.cells(), positions.size());
    EXPECT_EQ(log.fold().end, 64);
    EXPECT_TRUE(log.tears_fold(30, -1));
    EXPECT_FALSE(log.tears_fold(64, -1));
    EXPECT_TRUE(log.knows_all_tokens());
}

TEST(SequenceLog, PositionsWithoutGapsAreNoFold) {
    std::vector<llama_pos> positions(50);
    std::iota(positions.begin(), positions.end(), 0);
    const SequenceLog log = SequenceLog::from_positions(positions, {});
    EXPECT_TRUE(log.fold().empty());
    EXPECT_EQ(log.cells(), 50u);
    EXPECT_FALSE(log.knows_all_tokens());
}

} // namespace
} // namespace kvfold
