// Drafts: the model itself writes what could come behind the context, and its own words ask as it writes them
// (arXiv 2602.16284, section 4).
#pragma once

#include "study/scratch.h"

namespace kvfold {

// Drafts that are written side by side: a decode of many sequences takes little longer than of one.
struct Drafts {
    uint32_t count;  // each a sequence of the scratch context, from 1 on
    uint32_t tokens; // of each, at most
};

// About `tokens` in all. Short drafts, because more of them see more of the context; fewer where every
// sequence has a recurrent state of its own.
Drafts plan_drafts(size_t tokens, bool has_recurrent);

// Sequences that a scratch context needs for them.
uint32_t draft_sequences(const Drafts& drafts);

// Cells beyond those of the snapshot that it needs, and tokens that the tap hears, at most: what is decoded.
uint32_t draft_cells(const llama_model* model, const Drafts& drafts);

// Writes them: continuations of the text and answers to questions about it (through the model's chat template
// when it has one), sampled in `scratch`, each behind a copy of the sequence that it holds. newest: the
// sequence's last token; LLAMA_TOKEN_NULL = the text is only asked about, because that token is not known, or
// cannot be read again.
Status write_drafts(Scratch& scratch, const llama_model* model, llama_token newest, const Drafts& drafts,
                    std::mt19937_64& rng);

} // namespace kvfold
