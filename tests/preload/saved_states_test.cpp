#include "preload/saved_states.h"

#include <gtest/gtest.h>

namespace kvfold::preload {
namespace {

TEST(SavedStates, AreFoundByTheirBytes) {
    SavedStates saved;
    std::vector<uint8_t> a(1000, 1), b(1000, 1);
    b[999] = 2;
    saved.remember(a, {{7, 8, 9}, {}});
    saved.remember(b, {{1, 2, 3, 4, 5}, {}});
    EXPECT_EQ(saved.find(a).tokens, (std::vector<llama_token>{7, 8, 9}));
    EXPECT_EQ(saved.find(b).tokens.size(), 5u);
}

TEST(SavedStates, OneChangedBitAnywhereIsAnotherState) {
    SavedStates saved;
    std::vector<uint8_t> bytes(203, 7);
    saved.remember(bytes, {{7, 8, 9}, {}});
    for (size_t at = 0; at < bytes.size(); ++at) {
        for (int bit = 0; bit < 8; ++bit) {
            bytes[at] ^= static_cast<uint8_t>(1 << bit);
            EXPECT_TRUE(saved.find(bytes).tokens.empty()) << at << " bit " << bit;
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
        saved.remember(numbered(i), {{6}, {}});
    EXPECT_TRUE(saved.find(numbered(0)).tokens.empty());
    EXPECT_FALSE(saved.find(numbered(299)).tokens.empty());
}

} // namespace
} // namespace kvfold::preload
