// Contexts and passages of the tests of study, without a model.
#pragma once

#include "study/study.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace kvfold {

using Tokens = std::vector<llama_token>;

// Words that come back, as in a text.
inline Tokens text_like(size_t count) {
    std::mt19937 rng(4);
    Tokens tokens(count);
    for (llama_token& token : tokens)
        token = static_cast<llama_token>(1000 + rng() % 12 * (1 + rng() % 12));
    return tokens;
}

inline bool is_same(const std::vector<Passage>& a, const std::vector<Passage>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Passage& x, const Passage& y) {
        return x.first_pos == y.first_pos && x.tokens == y.tokens;
    });
}

// For plans that do not recite.
inline const Pieces no_pieces = [](llama_token) { return std::string(); };

} // namespace kvfold
