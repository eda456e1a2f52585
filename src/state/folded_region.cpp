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
    const int32_t begin = std::max(1, positions[first - 1]), end = positions[last] + 1;
    const auto cells = std::ranges::lower_bound(positions, end) - std::ranges::lower_bound(positions, begin);
    return {begin, end, static_cast<uint32_t>(cells)};
}

std::vector<int32_t> sorted_positions(const KvSection& section) {
    std::vector<int32_t> positions;
    for (const CellMeta& cell : section.cells)
        positions.push_back(cell.pos);
    std::sort(positions.begin(), positions.end());
    return positions;
}

} // namespace kvfold
