#include "study/snippets.h"

#include "base/shuffle.h"

namespace kvfold {

std::vector<Passage> join_snippets(std::vector<TokenSpan> snippets, llama_pos behind, std::mt19937_64& rng) {
    shuffle_first(snippets, snippets.size(), rng);
    std::vector<Passage> passages;
    for (const TokenSpan snippet : snippets) {
        if (passages.empty() || passages.back().tokens.size() + snippet.size() > kPassage)
            passages.push_back({{}, behind});
        auto& tokens = passages.back().tokens;
        tokens.insert(tokens.end(), snippet.begin(), snippet.end());
    }
    return passages;
}

} // namespace kvfold
