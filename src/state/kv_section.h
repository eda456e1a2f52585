// The cells of one attention cache of a sequence: where they stand, and their keys and values in every layer.
#pragma once

#include "state/cache_tensor.h"

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace kvfold {

struct CellMeta {
    int32_t pos = 0;
    int32_t seq_id = 0;                 // whatever the writer put there; readers ignore it
    std::array<uint8_t, 12> extra = {}; // i32 x, y, token; see KvSection::has_extra
};

// Whether the cell holds an embedding given to llama.cpp (an image's) instead of a token. Known only of
// sections that have extra data, which M-RoPE models write.
bool is_embedding(const CellMeta& cell);

// How many dimensions of a key and of a value llama.cpp has rotated before it quantised them; 0 = none.
struct Rotation {
    uint32_t keys = 0, values = 0;
};

// One attention cache. A model has one; with interleaved sliding windows two: global first, window second.
struct KvSection {
    uint32_t streams = 1;            // streams of the cache that wrote it
    uint32_t stream = 0;             // the stream that holds the cells; the others are empty
    bool has_extra = false;          // the cells carry CellMeta::extra
    std::vector<CellMeta> cells;     // [T], in the order of the cache; T = 0: no layers below
    std::vector<CacheTensor> keys;   // [layers] each [T, width]
    std::vector<CacheTensor> values; // [layers] each [T, width]
    bool values_transposed = false;  // the section's own flag, used only when it has cells but no layers
    Rotation rotation;               // written since version 4 of the format
};

// The position behind the last cell; 0 where there is none.
int32_t end_position(const KvSection& section);

// The indices of all cells, by rising position; of one position in the order of the cache.
std::vector<uint32_t> cells_by_position(const KvSection& section);

// The named cells in the order given, byte for byte, in every layer.
KvSection take_cells(const KvSection& section, std::span<const uint32_t> cells);

// Appends the cells of `tail` behind those of `section`. REQUIRES: the same layers, types and layouts.
void append_cells(KvSection& section, const KvSection& tail);

} // namespace kvfold
