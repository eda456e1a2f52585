// Short pieces of a text, read one behind the other.
#pragma once

#include "study/sources.h"

namespace kvfold {

// Tokens of a snippet. A few lead to a look-up, and more places count for more than longer ones; the samples
// of repeat are better left long (docs/methods.md).
inline constexpr size_t kReciteSnippet = 8, kRepeatSnippet = 64;

// In another order, joined to passages of at most kPassage tokens behind the sequence.
std::vector<Passage> join_snippets(std::vector<TokenSpan> snippets, llama_pos behind, std::mt19937_64& rng);

} // namespace kvfold
