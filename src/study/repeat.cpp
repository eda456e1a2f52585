#include "study/sources.h"

#include <algorithm>

namespace kvfold {

// One chunk from each of `chunks` equal stretches of the text, at a random place within its stretch, so
// that every part has its share whatever the count.
std::vector<Passage> repeat_passages(TokenSpan text, llama_pos behind, size_t count,
                                     std::mt19937_64& rng) {
    constexpr size_t kChunk = 64;
    count = std::min(count, text.size());
    const size_t chunks = std::max<size_t>(1, count / kChunk);
    const size_t length = std::min(count / chunks, kLongestPassage);
    std::vector<Passage> passages;
    for (size_t i = 0; i < chunks; ++i) {
        const size_t begin = text.size() * i / chunks, end = text.size() * (i + 1) / chunks;
        const size_t slack = end - begin > length ? end - begin - length : 0;
        const TokenSpan chunk = text.subspan(begin + rng() % (slack + 1)).first(length);
        passages.push_back({{chunk.begin(), chunk.end()}, behind});
    }
    return passages;
}

} // namespace kvfold
