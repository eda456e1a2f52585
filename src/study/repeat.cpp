#include "study/snippets.h"

#include <algorithm>

namespace kvfold {

// One snippet from each of equal stretches of the text, at a random place within its stretch, so that every
// part has its share whatever the count.
std::vector<Passage> repeat_passages(TokenSpan text, llama_pos behind, size_t count, std::mt19937_64& rng) {
    count = std::min(count, text.size());
    const size_t stretches = std::max<size_t>(1, count / kRepeatSnippet);
    const size_t length = count / stretches;
    std::vector<TokenSpan> snippets;
    for (size_t i = 0; i < stretches; ++i) {
        const size_t begin = text.size() * i / stretches, end = text.size() * (i + 1) / stretches;
        const size_t slack = end - begin > length ? end - begin - length : 0;
        snippets.push_back(text.subspan(begin + rng() % (slack + 1), length));
    }
    return join_snippets(std::move(snippets), behind, rng);
}

} // namespace kvfold
