// How passages are read in a scratch context: short ones side by side, since a device takes about as long for
// one as for as many as fill a batch.
#pragma once

#include "study/scratch.h"
#include "study/sources.h"

namespace kvfold {

// Tokens in all passages: rows the tap must have room for.
Index count_tokens(std::span<const Passage> passages);

// What a scratch context needs to read any of the passages.
struct ReadingRoom {
    uint32_t cells = 0;     // beyond those of the sequence
    uint32_t sequences = 1; // the snapshot's own and those of passages that are read side by side
};
ReadingRoom room_to_read(std::span<const Passage> passages, const SequenceState& cache,
                         const AttentionMap& map);

// Prefills every passage against the snapshot of `scratch`, whose tap collects the queries in the order of
// the passages. map: of the model. REQUIRES: room_to_read.
Status read_passages(Scratch& scratch, std::span<const Passage> passages, const AttentionMap& map);

} // namespace kvfold
