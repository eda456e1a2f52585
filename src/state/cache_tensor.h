// Keys or values of one layer in the type of the cache, and their way to f32 and back.
#pragma once

#include "base/matrix.h"
#include "base/result.h"

#include <ggml.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace kvfold {

struct CacheTensor {
    ggml_type type = GGML_TYPE_F16;
    uint32_t width = 0;      // elements of one cell, all heads: H * d
    bool transposed = false; // bytes are [width, T] (values without flash attention) instead of [T, width]
    std::vector<uint8_t> bytes;

    size_t row_bytes() const; // bytes of one cell
    size_t cell_count() const;
};

// The types that have conversions both ways: f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 iq4_nl.
bool is_cache_type(ggml_type type);

// All cells as f32: [T, width].
Matrix to_float(const CacheTensor& tensor);

// One head of some cells as f32: columns [first_col, first_col + cols) of the named cells, [cells.size(),
// cols]. REQUIRES: first_col and cols multiples of the type's block.
Matrix head_to_float(const CacheTensor& tensor, std::span<const uint32_t> cells, Index first_col, Index cols);

// REQUIRES: is_cache_type(type), rows.cols() a multiple of the type's block; block 1 when transposed.
// Fails with `numeric` if a value does not fit the type (f16 overflow, NaN).
Result<CacheTensor> from_float(MatrixView rows, ggml_type type, bool transposed);

// The named cells, byte for byte, in the order given.
CacheTensor take_cells(const CacheTensor& tensor, std::span<const uint32_t> cells);

// Cells put together of heads, byte for byte: cell i has head h of the old cell cells[h][i]. REQUIRES: as
// many cells for every head; the heads are of one width, a multiple of the type's block.
CacheTensor take_heads(const CacheTensor& tensor, std::span<const std::vector<uint32_t>> cells);

// Appends the cells of `tail` behind those of `tensor`. REQUIRES: same type, width and layout.
void append_cells(CacheTensor& tensor, const CacheTensor& tail);

// Brings rows to the precision of `type` in place (there and back again). REQUIRES: cols a multiple of the
// block.
void round_rows(MutableMatrixView rows, ggml_type type);

} // namespace kvfold
