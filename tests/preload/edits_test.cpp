#include "preload/edits.h"

#include <gtest/gtest.h>

namespace kvfold::preload {
namespace {

std::vector<llama_token> text(size_t size) {
    std::vector<llama_token> tokens(size);
    for (size_t i = 0; i < size; ++i)
        tokens[i] = static_cast<llama_token>(i + 3);
    return tokens;
}

// The sequence is emptied, and read again with another token at `changed`.
void read_again(Edits& edits, size_t size, size_t changed) {
    edits.cut(0, 0, text(size));
    std::vector<llama_token> tokens = text(size);
    tokens[changed] = 1;
    for (size_t i = 0; i < size; ++i)
        edits.decode(0, static_cast<llama_pos>(i), tokens[i]);
}

TEST(Edits, ACutReachesFromItsPositionToTheEnd) {
    Edits edits;
    EXPECT_EQ(edits.reach(0), 0u);
    edits.cut(0, 70, text(100));
    EXPECT_EQ(edits.reach(0), 30u);
    EXPECT_EQ(edits.reach(1), 0u);
    edits.cut(0, 90, text(100));
    EXPECT_EQ(edits.reach(0), 30u);
}

TEST(Edits, ATextThatIsReadAgainReachesBackToItsFirstChange) {
    Edits edits;
    read_again(edits, 100, 80);
    EXPECT_EQ(edits.reach(0), 20u);
}

TEST(Edits, AnotherTextIsNoChange) {
    Edits edits;
    read_again(edits, 100, 40);
    edits.cut(0, 40, text(100));
    EXPECT_EQ(edits.reach(0), 0u);
}

TEST(Edits, TheSameTextOnceMoreIsNoChange) {
    Edits edits;
    edits.cut(0, 0, text(100));
    for (size_t i = 0; i < 100; ++i)
        edits.decode(0, static_cast<llama_pos>(i), text(100)[i]);
    edits.decode(0, 100, 1);
    EXPECT_EQ(edits.reach(0), 0u);
}

TEST(Edits, AChangeIsForgottenAfterEightRequestsWithout) {
    Edits edits;
    edits.cut(0, 70, text(100));
    for (size_t turn = 0; turn < 7; ++turn)
        edits.cut(0, 100, text(100));
    EXPECT_EQ(edits.reach(0), 30u);
    edits.cut(0, 100, text(100));
    EXPECT_EQ(edits.reach(0), 0u);
}

} // namespace
} // namespace kvfold::preload
