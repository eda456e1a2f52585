#include "study/sources.h"

#include <algorithm>

namespace kvfold {

std::vector<Passage> tail_passages(TokenSpan context, size_t count) {
    // Position 0 stays: a sequence without its first cell attends to nothing like what it will see.
    const auto is_not_text = [](llama_token token) { return token == LLAMA_TOKEN_NULL; };
    const auto run = static_cast<size_t>(std::find_if(context.rbegin(), context.rend() - 1, is_not_text) -
                                         context.rbegin());
    count = std::min(count, run);
    if (count == 0) return {};
    const TokenSpan newest = context.last(count);
    return {{{newest.begin(), newest.end()}, static_cast<llama_pos>(context.size() - count), true}};
}

} // namespace kvfold
