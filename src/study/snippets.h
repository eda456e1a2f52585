// Short pieces of a text, read one behind the other.
#pragma once

#include "study/sources.h"

namespace kvfold {

// Tokens of a snippet. What looks a passage up needs a few tokens of lead; more places asked about count for more than
// longer ones (docs/methods.md).
inline constexpr size_t kSnippet = 8;

// In another order, joined to passages behind the sequence: a prefill of one snippet costs nearly what one of 256
// tokens does.
std::vector<Passage> join_snippets(std::vector<TokenSpan> snippets, llama_pos behind, std::mt19937_64& rng);

} // namespace kvfold
