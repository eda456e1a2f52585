// Self-study: the model writes what could come after the context, and its own words become passages.
#pragma once

#include "study/scratch.h"
#include "study/sources.h"

namespace kvfold {

// Drafts about `count` tokens: continuations of the text and answers to questions about it (through the
// model's chat template when it has one), sampled in `scratch`. Decoding is ten times dearer than prefilling
// and dearer still on a full cache, so `scratch` holds a first compact cache: the drafts are then prefilled
// against the full one, with the tap open. `newest` is the sequence's last token.
Result<std::vector<Passage>> draft_passages(Scratch& scratch, const llama_model* model, llama_token newest,
                                            size_t count, std::mt19937_64& rng);

} // namespace kvfold
