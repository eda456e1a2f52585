// Where the folded region of a sequence lies, told from the positions of its cells alone.
#pragma once

#include "state/kv_section.h"

namespace kvfold {

// Positions [begin, end) are held by `cells` cells instead of end - begin. Empty when begin == end.
struct FoldedRegion {
    int32_t begin = 0, end = 0;
    uint32_t cells = 0;
    bool empty() const { return begin == end; }
};

// From the cell before the first gap to the one behind the last: as often as not these two belong to the
// region too, and a cut there would tear it. The first cell of a sequence never does. positions: rising.
FoldedRegion folded_region(std::span<const int32_t> positions);

// Of the section's cells, rising.
std::vector<int32_t> sorted_positions(const KvSection& section);

} // namespace kvfold
