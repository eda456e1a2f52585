#include "state/token_area.h"

#include <llama.h>

namespace kvfold {

namespace {

constexpr int32_t kPackedVersion = 1;
constexpr size_t kPackedHeader = 3; // null token, version, number of tokens

} // namespace

Result<TokenArea> unpack_tokens(std::span<const int32_t> words) {
    const bool is_packed = !words.empty() && words.front() == LLAMA_TOKEN_NULL;
    if (!is_packed) return TokenArea{{words.begin(), words.end()}, std::nullopt};
    if (words.size() < kPackedHeader)
        return fail(ErrorCode::corrupt, "tokens: expected a packed header of {} words, got {}", kPackedHeader,
                    words.size());
    if (words[1] != kPackedVersion)
        return fail(ErrorCode::unsupported, "tokens: packed in version {}, kvfold reads version {}", words[1],
                    kPackedVersion);
    const auto count = static_cast<uint32_t>(words[2]);
    const std::span<const int32_t> behind = words.subspan(kPackedHeader);
    if (count >= behind.size()) // the number of media follows
        return fail(ErrorCode::corrupt,
                    "tokens: expected {} packed ones and a number of media, but only {} words follow", count,
                    behind.size());
    const auto tokens = behind.first(count), media = behind.subspan(count);
    return TokenArea{{tokens.begin(), tokens.end()}, std::vector<int32_t>(media.begin(), media.end())};
}

std::vector<int32_t> pack_tokens(const TokenArea& area) {
    if (!area.media) return area.tokens;
    std::vector<int32_t> words = {LLAMA_TOKEN_NULL, kPackedVersion, static_cast<int32_t>(area.tokens.size())};
    words.insert(words.end(), area.tokens.begin(), area.tokens.end());
    words.insert(words.end(), area.media->begin(), area.media->end());
    return words;
}

} // namespace kvfold
