#include "state/folded_region.h"

#include <algorithm>

namespace kvfold {

FoldedRegion folded_region(std::span<const int32_t> positions) {
    if (positions.empty() || positions.front() <= 0) return {};
    const auto behind = std::ranges::upper_bound(positions, positions.front());
    return {positions.front() + 1, static_cast<uint32_t>(behind - positions.begin())};
}

FoldedRegion folded_region(const KvSection& section) { return folded_region(sorted_positions(section)); }

void gather_before(KvSection& section, int32_t end) {
    for (CellMeta& cell : section.cells)
        cell.pos = std::max(cell.pos, end - 1);
}

std::vector<int32_t> sorted_positions(const KvSection& section) {
    std::vector<int32_t> positions;
    for (const CellMeta& cell : section.cells)
        positions.push_back(cell.pos);
    std::sort(positions.begin(), positions.end());
    return positions;
}

int32_t first_plain_position(const KvSection& section) {
    int32_t first = 1, before = -1;
    for (const int32_t pos : sorted_positions(section)) {
        if (pos > before + 1) first = pos + 1;
        before = pos;
    }
    return first;
}

} // namespace kvfold
