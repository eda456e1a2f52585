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
        edits.decode(0, static_cast<llama_pos>(i), tokens[i], false);
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
        edits.decode(0, static_cast<llama_pos>(i), text(100)[i], false);
    edits.decode(0, 100, 1, false);
    EXPECT_EQ(edits.reach(0), 0u);
}

// Servers cut before each batch of a prompt.
TEST(Edits, AChangeBehindTheFirstBatchIsFound) {
    Edits edits;
    edits.cut(0, 0, text(100));
    for (size_t i = 0; i < 90; ++i) {
        if (i % 10 == 0) edits.cut(0, static_cast<llama_pos>(i), text(i));
        edits.decode(0, static_cast<llama_pos>(i), i == 85 ? 1 : text(100)[i], false);
    }
    EXPECT_EQ(edits.reach(0), 15u);
}

// With drafts that are refused in the answers.
TEST(Edits, AChangeIsForgottenBehindEightRequestsWithout) {
    Edits edits;
    const auto request = [&] {
        for (int batch = 0; batch < 3; ++batch)
            edits.decode(0, 100 + batch, 5, false);
        for (llama_pos pos = 103; pos < 110; ++pos) {
            edits.decode(0, pos, 5, true);
            edits.cut(0, pos, text(static_cast<size_t>(pos) + 4));
        }
    };
    request();
    edits.cut(0, 70, text(100));
    for (int count = 0; count < 10; ++count) { // its own, eight, and one
        EXPECT_EQ(edits.reach(0), 30u) << count;
        request();
    }
    EXPECT_EQ(edits.reach(0), 4u);
}

TEST(Edits, ImagesAreNoChange) {
    Edits edits;
    edits.cut(0, 0, text(100));
    for (llama_pos pos = 0; pos < 80; ++pos)
        edits.decode(0, pos, text(100)[static_cast<size_t>(pos)], false);
    edits.decode(0, 80, LLAMA_TOKEN_NULL, false);
    EXPECT_EQ(edits.reach(0), 0u);
}

} // namespace
} // namespace kvfold::preload
