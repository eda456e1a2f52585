#include "preload/saved_states.h"

#include <gtest/gtest.h>

namespace kvfold::preload {
namespace {

SequenceLog log_of(llama_pos count) {
    SequenceLog log;
    for (llama_pos pos = 0; pos < count; ++pos)
        log.set(pos, pos);
    return log;
}

TEST(SavedStates, AreFoundByTheirBytes) {
    SavedStates saved;
    std::vector<uint8_t> a(1000, 1), b(1000, 1);
    b[999] = 2;
    saved.remember(a, log_of(3));
    saved.remember(b, log_of(5));
    ASSERT_NE(saved.find(a), nullptr);
    EXPECT_EQ(saved.find(a)->end(), 3);
    EXPECT_EQ(saved.find(b)->end(), 5);
}

TEST(SavedStates, OneChangedBitAnywhereIsAnotherState) {
    SavedStates saved;
    std::vector<uint8_t> bytes(203, 7);
    saved.remember(bytes, log_of(3));
    for (size_t at = 0; at < bytes.size(); ++at) {
        for (int bit = 0; bit < 8; ++bit) {
            bytes[at] ^= static_cast<uint8_t>(1 << bit);
            EXPECT_EQ(saved.find(bytes), nullptr) << at << " bit " << bit;
            bytes[at] ^= static_cast<uint8_t>(1 << bit);
        }
    }
}

TEST(SavedStates, TheOldestAreForgotten) {
    SavedStates saved;
    const auto numbered = [](int i) {
        return std::vector<uint8_t>{static_cast<uint8_t>(i), static_cast<uint8_t>(i >> 8)};
    };
    for (int i = 0; i < 300; ++i)
        saved.remember(numbered(i), log_of(1));
    EXPECT_EQ(saved.find(numbered(0)), nullptr);
    EXPECT_NE(saved.find(numbered(299)), nullptr);
}

TEST(TokensOfFile, PlainTokensAreTaken) {
    const std::vector<llama_token> tokens = {5, 6, 7};
    EXPECT_EQ(tokens_of_file(tokens, 3), tokens);
}

TEST(TokensOfFile, TheServersFormIsUnpacked) {
    const std::vector<llama_token> packed = {LLAMA_TOKEN_NULL, 1, 3, 5, 6, 7, /*media=*/0};
    EXPECT_EQ(tokens_of_file(packed, 3), (std::vector<llama_token>{5, 6, 7}));
}

TEST(TokensOfFile, AnotherNumberThanTheCellsSayIsUnknown) {
    const std::vector<llama_token> tokens = {5, 6, 7};
    EXPECT_TRUE(tokens_of_file(tokens, 4).empty());
    const std::vector<llama_token> cut = {LLAMA_TOKEN_NULL, 1, 9, 5, 6};
    EXPECT_TRUE(tokens_of_file(cut, 9).empty());
}

} // namespace
} // namespace kvfold::preload
