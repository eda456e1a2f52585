// Self-study: the model writes what could come after the context, and its own words become passages.
#pragma once

#include "study/scratch.h"
#include "study/sources.h"

namespace kvfold {

// Cells that a scratch context must spare for drafts.
uint32_t draft_cells(const llama_model* model);

// Drafts about `count` tokens: continuations of the text and answers to questions about it (through the
// model's chat template when it has one), sampled in `scratch`, behind the sequence that it holds. `newest`
// is the sequence's last token; LLAMA_TOKEN_NULL = unknown, and then the text is not continued, only asked
// about.
Result<std::vector<Passage>> draft_passages(Scratch& scratch, const llama_model* model, llama_token newest,
                                            size_t count, std::mt19937_64& rng);

} // namespace kvfold
