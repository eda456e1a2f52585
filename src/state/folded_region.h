// Where the folded part of a sequence ends, told from the positions of its cells alone.
#pragma once

#include "state/kv_section.h"

namespace kvfold {

// Positions [0, end) are held by `cells` cells, all of which stand at end - 1. Empty when end == 0.
struct FoldedRegion {
    int32_t end = 0;
    uint32_t cells = 0;
    bool empty() const { return end == 0; }
};

// A sequence begins at position 0. Where it begins later, the cells at its first position hold all that stood
// up to there. positions: of a cache whose layers see the whole context, rising.
FoldedRegion folded_region(std::span<const int32_t> positions);
FoldedRegion folded_region(const KvSection& section);

// Cells in front of `end` stand at the position before it then, as those of a fold do.
void gather_before(KvSection& section, int32_t end);

// Of the section's cells, rising.
std::vector<int32_t> sorted_positions(const KvSection& section);

// The first position that can be cut without tearing a fold: the one behind the first cell after the last gap
// between positions. Images of M-RoPE models leave gaps too, so for them it may be later than needed. 1 for
// an empty section.
int32_t first_plain_position(const KvSection& section);

} // namespace kvfold
