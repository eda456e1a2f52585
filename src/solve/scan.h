// What a few queries see of the many keys of an archive: keys are read where they lie, in the cache's
// precision.
#pragma once

#include "base/matrix.h"

#include <cstdint>
#include <span>

namespace kvfold {

// Keys of one head where they lie: that of cell i begins cells[i] * stride bytes behind `first`.
struct KeyRows {
    const uint8_t* first;
    size_t stride;
    bool is_half; // halves, else floats
    std::span<const uint32_t> cells;
};

struct ScanProblem {
    std::span<const KeyRows> keys; // of one head, T cells in all
    MatrixView queries;            // Q: [n, d]
    float scale;
    float softcap = 0;
    Vector elsewhere =
        {}; // [n] log-sum-exp of the logits of keys that are not among these; empty: there are none
};

// [T] the highest probability that any of the queries gives each cell, those of the first rows first; e^-30
// at least. Each key is read once for a block of queries. All NaN where a key or a query is not finite.
Vector highest_attention(const ScanProblem& problem);

// Neighbouring keys of one head, block by block.
struct KeyBlocksView {
    MatrixView means, variances;    // [blocks, d] in each dimension
    Eigen::Ref<const Vector> sizes; // [blocks] keys of each
};

struct BlockAttention {
    Vector highest; // [blocks] the highest probability that a query is expected to give a key of the block
    Matrix masses;  // [n, blocks] log-sum-exp of the logits of the block's keys, as it is expected
};

// What the queries see of blocks, as if keys were normally distributed. scale, softcap: of the logits.
BlockAttention expected_attention(std::span<const KeyBlocksView> blocks, MatrixView queries, float scale,
                                  float softcap);

} // namespace kvfold
