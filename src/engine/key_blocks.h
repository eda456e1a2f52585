// What can be known of neighbouring keys without reading them: a scan estimates what queries see of each
// block, and reads those blocks alone that are likely to have what they look at most.
#pragma once

#include "model/probe.h"
#include "state/kv_section.h"

namespace kvfold {

struct KeyBlocks {
    static constexpr Index kCells = 16; // of a block; the last one may have fewer

    struct Head {
        Matrix means;     // [blocks, d] of the block's keys
        Matrix variances; // [blocks, d] of the block's keys, in each dimension
    };
    std::vector<std::vector<Head>> heads; // [layer of the map][KV head]

    size_t bytes() const;
};

// Blocks of the named cells, in the order given.
KeyBlocks block_keys(const AttentionMap& map, const KvSection& section, std::span<const uint32_t> cells);

} // namespace kvfold
