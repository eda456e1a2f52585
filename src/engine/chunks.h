// Which cells are folded together when a sequence is folded chunk by chunk. One step folds one chunk and
// nothing else:
//
//   [ head | what the earlier chunks became | chunk | tail ]
//
// The tail stands behind every chunk, so that each study asks from the end of a sequence.
#pragma once

#include "fit/regions.h"

#include <llama.h>

namespace kvfold {

struct Chunk {
    size_t begin = 0, end = 0;   // of Regions::region
    std::vector<uint32_t> cells; // indices into the section's cells: those of the region, then pinned ones
    // Positions of its text: the first chunk's begins with the head's, the others' where the one before ends,
    // and the last one's ends where the tail begins.
    llama_pos text_begin = 0, text_end = 0;
    size_t cells_before = 0; // of the whole step, as drawn above
    Budget budget;           // of the step
};

// The chunks of a region, all of about the same size and ratio, none of more than `most` cells; one when
// `most` is 0, none of an empty region. Fails with invalid_argument when the ratio leaves fewer than two
// cells for each of several chunks, or when there are several and no tail, from which their studies would
// ask.
Result<std::vector<Chunk>> plan_chunks(const KvSection& section, const Regions& regions, size_t most);

constexpr size_t kLeastChunk = 128; // the study of less text asks about nothing

// Half as many cells at once as a region folded `most` at a time has; 0 where that is less than kLeastChunk.
size_t fewer_at_once(size_t region, size_t most);

// The cells that a text will have, cell i at position i and nothing in it: to plan before it is read.
KvSection cells_of_text(size_t tokens);

// How a text is read that is folded on the way.
struct ReadingPlan {
    Regions regions;           // as if all of it stood in the cache: cell i at position i
    std::vector<Chunk> chunks; // none at ratio 1
    size_t cells = 0;          // that the sequence has at most, on the way
};

// room: cells of the context. Where it is too small for chunks of `most` cells they are smaller, down to
// kLeastChunk. Fails with invalid_argument when that does not fit either, and as plan_regions and plan_chunks
// do.
Result<ReadingPlan> plan_reading(size_t tokens, const Budget& budget, size_t most, size_t room);

} // namespace kvfold
