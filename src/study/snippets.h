// Short pieces of a text, read one behind the other.
#pragma once

#include "study/sources.h"

namespace kvfold {

// Tokens of a snippet. What is to be recalled is looked up after a few tokens of lead, and more places count for more
// than longer ones; repeat loses by the same (docs/methods.md).
inline constexpr size_t kReciteSnippet = 8, kRepeatSnippet = 64;

// In another order, joined to passages behind the sequence: a prefill of one snippet costs nearly what one of 256
// tokens does.
std::vector<Passage> join_snippets(std::vector<TokenSpan> snippets, llama_pos behind, std::mt19937_64& rng);

} // namespace kvfold
