#include "study/sources.h"

#include <algorithm>

namespace kvfold {

std::vector<Passage> tail_passages(TokenSpan context, size_t count) {
    // Position 0 stays: a sequence without its first cell attends to nothing like what it will see.
    count = std::min(count, context.size() - 1);
    const TokenSpan newest = context.last(count);
    return {{{newest.begin(), newest.end()}, static_cast<llama_pos>(context.size() - count)}};
}

} // namespace kvfold
