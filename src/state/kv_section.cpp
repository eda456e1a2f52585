#include "state/kv_section.h"

#include <algorithm>
#include <numeric>

namespace kvfold {

bool is_embedding(const CellMeta& cell) {
    constexpr size_t kTokenOffset = 8, kNoToken = 0xFF; // LLAMA_TOKEN_NULL is -1
    return std::all_of(cell.extra.begin() + kTokenOffset, cell.extra.end(),
                       [](uint8_t byte) { return byte == kNoToken; });
}

int32_t end_position(const KvSection& section) {
    int32_t end = 0;
    for (const CellMeta& cell : section.cells)
        end = std::max(end, cell.pos + 1);
    return end;
}

std::vector<uint32_t> cells_by_position(const KvSection& section) {
    std::vector<uint32_t> order(section.cells.size());
    std::iota(order.begin(), order.end(), 0u);
    std::ranges::stable_sort(order, {}, [&](uint32_t cell) { return section.cells[cell].pos; });
    return order;
}

KvSection take_cells(const KvSection& section, std::span<const uint32_t> cells) {
    KvSection taken{section.streams,           section.stream,  section.has_extra, {}, {}, {},
                    section.values_transposed, section.rotation};
    for (const uint32_t cell : cells)
        taken.cells.push_back(section.cells[cell]);
    for (const CacheTensor& keys : section.keys)
        taken.keys.push_back(take_cells(keys, cells));
    for (const CacheTensor& values : section.values)
        taken.values.push_back(take_cells(values, cells));
    return taken;
}

void append_cells(KvSection& section, const KvSection& tail) {
    section.cells.insert(section.cells.end(), tail.cells.begin(), tail.cells.end());
    for (size_t layer = 0; layer < section.keys.size(); ++layer) {
        append_cells(section.keys[layer], tail.keys[layer]);
        append_cells(section.values[layer], tail.values[layer]);
    }
}

} // namespace kvfold
