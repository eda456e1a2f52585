// What stands in front of the state in a slot file.
#include "state/token_area.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

using Words = std::vector<int32_t>;

TEST(TokenArea, PlainTokensAreTaken) {
    for (const Words& words : {Words{}, Words{5}, Words{5, 6, 7}}) {
        const auto area = unpack_tokens(words);
        ASSERT_TRUE(area);
        EXPECT_EQ(area->tokens, words);
        EXPECT_FALSE(area->media);
        EXPECT_EQ(pack_tokens(*area), words);
    }
}

TEST(TokenArea, TheServersFormIsUnpackedAndComesBack) {
    const Words text = {-1, 1, 3, 5, 6, 7, /*media=*/0};
    const auto area = unpack_tokens(text);
    ASSERT_TRUE(area);
    EXPECT_EQ(area->tokens, (Words{5, 6, 7}));
    EXPECT_FALSE(area->has_media());
    EXPECT_EQ(pack_tokens(*area), text);

    const Words image = {-1, 1, 4, 5, -1, -1, 7, /*media=*/1, /*at=*/1, /*bytes=*/5, 0x01020304, 0x05};
    const auto seen = unpack_tokens(image);
    ASSERT_TRUE(seen);
    EXPECT_EQ(seen->tokens, (Words{5, -1, -1, 7}));
    EXPECT_TRUE(seen->has_media());
    EXPECT_EQ(pack_tokens(*seen), image);
}

TEST(TokenArea, DamageIsRefused) {
    const auto error = [](const Words& words) {
        const auto area = unpack_tokens(words);
        return area ? ErrorCode::internal : area.error().code;
    };
    EXPECT_EQ(error({-1}), ErrorCode::corrupt);
    EXPECT_EQ(error({-1, 1}), ErrorCode::corrupt);
    EXPECT_EQ(error({-1, 1, 0}), ErrorCode::corrupt);
    EXPECT_EQ(error({-1, 1, 3, 5, 6, 7}), ErrorCode::corrupt);
    EXPECT_EQ(error({-1, 1, -1, 5, 6, 7}), ErrorCode::corrupt);
    EXPECT_EQ(error({-1, 2, 3, 5, 6, 7, 0}), ErrorCode::unsupported);
}

} // namespace
} // namespace kvfold
