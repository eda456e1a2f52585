// The state of one sequence as llama.cpp saves it: positions, keys and values of every layer.
// The format is written down in docs/state-format.md.
#pragma once

#include "base/result.h"
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

// One attention cache. A model has one; with interleaved sliding windows two: global first, window second.
struct KvSection {
    uint32_t streams = 1; // streams of the cache that wrote it
    uint32_t stream = 0;  // the stream that holds the cells; the others are empty
    bool has_extra = false; // the cells carry CellMeta::extra
    std::vector<CellMeta> cells;     // [T], in the order of the cache; T = 0: no layers below
    std::vector<CacheTensor> keys;   // [layers] each [T, width]
    std::vector<CacheTensor> values; // [layers] each [T, width]
    bool values_transposed = false;  // the section's own flag, used only when it has cells but no layers
};

struct SequenceState {
    std::vector<KvSection> sections; // at least one
    std::vector<uint8_t> recurrent;  // a recurrent section, byte for byte; empty when there is none
};

// The bytes of a sequence without any header (as they stand in a slot file behind the tokens).
// Strict to the last byte. Fails with `corrupt` or `unsupported` (types, MLA), naming section, layer and
// byte offset; `first_offset` is where bytes[0] stands in its file. Allocates no more than a small multiple
// of bytes.size().
Result<SequenceState> decode_sequence(std::span<const uint8_t> bytes, size_t first_offset = 0);

// decode_sequence(b) then encode_sequence gives b again, byte for byte.
// REQUIRES: in each section as many keys as values, each with one row a cell, all values in the same layout.
std::vector<uint8_t> encode_sequence(const SequenceState& state);

} // namespace kvfold
