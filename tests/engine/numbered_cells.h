// Sections of cells that hold a number each, so that a test sees where they went.
#pragma once

#include "state/kv_section.h"

#include <cstring>

namespace kvfold::testing {

using NumberedCells = std::vector<std::pair<int32_t, float>>; // position, number

inline KvSection section_of(const NumberedCells& cells) {
    KvSection section;
    CacheTensor tensor{GGML_TYPE_F32, 1, false, {}};
    for (const auto& [pos, number] : cells) {
        section.cells.push_back({pos});
        tensor.bytes.resize(tensor.bytes.size() + sizeof(float));
        std::memcpy(tensor.bytes.data() + tensor.bytes.size() - sizeof(float), &number, sizeof(float));
    }
    section.keys = section.values = {tensor};
    return section;
}

inline NumberedCells cells_of(const KvSection& section) {
    NumberedCells cells;
    for (size_t i = 0; i < section.cells.size(); ++i) {
        float number = 0;
        std::memcpy(&number, section.keys.front().bytes.data() + i * sizeof(float), sizeof(float));
        cells.push_back({section.cells[i].pos, number});
    }
    return cells;
}

inline NumberedCells plain(int32_t begin, int32_t end) {
    NumberedCells cells;
    for (int32_t pos = begin; pos < end; ++pos)
        cells.push_back({pos, static_cast<float>(pos)});
    return cells;
}

inline NumberedCells joined_cells(NumberedCells cells, const NumberedCells& more) {
    cells.insert(cells.end(), more.begin(), more.end());
    return cells;
}

} // namespace kvfold::testing
