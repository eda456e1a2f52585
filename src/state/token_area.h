// The tokens in front of the state in a slot file: plain ones, or as llama-server packs them since llama.cpp
// 0.5: a null token, a version, the tokens, and the images and sounds among them.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace kvfold {

struct TokenArea {
    std::vector<int32_t> tokens; // LLAMA_TOKEN_NULL for each token of an image or a sound
    // What stands behind the packed tokens, word by word; its first word is the number of images and sounds.
    // None: the tokens are plain.
    std::optional<std::vector<int32_t>> media;

    bool has_media() const { return media && media->front() != 0; }
};

// words: the whole area. Fails with corrupt, or with unsupported when the packing is of another version.
Result<TokenArea> unpack_tokens(std::span<const int32_t> words);
std::vector<int32_t> pack_tokens(const TokenArea& area);

} // namespace kvfold
