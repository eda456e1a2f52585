// Sources of reference queries: token sequences which, prefilled with the tap open, make the model ask what
// it will ask later. One file a source; docs/methods.md says what each is worth.
#pragma once

#include <llama.h>

#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace kvfold {

// Tokens decoded in one piece from first_pos on. Cells at first_pos and behind are out of its sight.
struct Passage {
    std::vector<llama_token> tokens;
    llama_pos first_pos = 0;
    bool is_newest = false;      // the context's newest tokens
    bool asks_for_place = false; // it asks for single places of the context
};

// context: the sequence's tokens, token i at position i; LLAMA_TOKEN_NULL where no text stands (images,
// positions that were removed). text: those that are not LLAMA_TOKEN_NULL. behind: the position after the
// last.
using TokenSpan = std::span<const llama_token>;

// The newest `count` tokens, as far back as nothing but text stands there, read again where they stand.
// Nearly free, and the best single source for what comes next.
std::vector<Passage> tail_passages(TokenSpan context, size_t count);

// `count` tokens that look like the text without copying it: sampled from the n-gram model of the context
// itself, half of them by the two tokens before, half by one. In passages behind the sequence.
std::vector<Passage> pseudo_passages(TokenSpan text, llama_pos behind, size_t count, std::mt19937_64& rng);

// `count` tokens of the text again, in snippets spread over it, in another order and behind the sequence.
// Teaches recall of every part; alone it over-trains copying. Snippets beat one long pass (KL 0.092 against
// 0.121).
std::vector<Passage> repeat_passages(TokenSpan text, llama_pos behind, size_t count, std::mt19937_64& rng);

// The text of a token.
using Pieces = std::function<std::string(llama_token)>;

// About `count` tokens of the text's densest snippets, those of numbers, names and rare words, in another
// order and out of their surroundings, behind the sequence. Teaches what must be recalled exactly.
std::vector<Passage> recite_passages(TokenSpan text, const Pieces& pieces, llama_pos behind, size_t count,
                                     std::mt19937_64& rng);

// The whole context from its start. Weak: early queries look at early positions only.
std::vector<Passage> prefill_passages(TokenSpan context);

// Tokens of a passage behind the sequence: two fill the batch of a scratch context.
constexpr size_t kPassage = 256;

} // namespace kvfold
