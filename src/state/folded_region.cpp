#include "state/folded_region.h"

#include <algorithm>

namespace kvfold {

FoldedRegion folded_region(std::span<const int32_t> positions) {
    size_t first = 0, last = 0; // the cells behind the first and the last gap
    for (size_t i = 1; i < positions.size(); ++i) {
        if (positions[i] <= positions[i - 1] + 1) continue; // several cells of an image share a position
        if (first == 0) first = i;
        last = i;
    }
    if (first == 0) return {};
    const int32_t before = positions[first - 1];
    const size_t begin_cell = before < 1 ? first : first - 1;
    return {std::max(1, before), positions[last] + 1, static_cast<uint32_t>(last + 1 - begin_cell)};
}

std::vector<int32_t> sorted_positions(const KvSection& section) {
    std::vector<int32_t> positions;
    for (const CellMeta& cell : section.cells)
        positions.push_back(cell.pos);
    std::sort(positions.begin(), positions.end());
    return positions;
}

} // namespace kvfold
