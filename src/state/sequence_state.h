// The state of one sequence as llama.cpp saves it: positions, keys and values of every layer.
// The format is written down in docs/state-format.md.
#pragma once

#include "base/result.h"
#include "state/kv_section.h"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace kvfold {

// Of the format. A slot file tells its version, the bytes of a sequence do not: then each is tried.
inline constexpr uint32_t kFirstVersion = 3, kVersionWithRotation = 4;

struct SequenceState {
    std::vector<KvSection> sections; // at least one
    std::vector<uint8_t> recurrent;  // a recurrent section, byte for byte; empty when there is none
    uint32_t version = kFirstVersion;
};

// The bytes of a sequence without any header (as they stand in a slot file behind the tokens).
// Strict to the last byte. Fails with `corrupt` or `unsupported` (types, MLA), naming section, layer and
// byte offset; `first_offset` is where bytes[0] stands in its file. Allocates no more than a small multiple
// of bytes.size().
Result<SequenceState> decode_sequence(std::span<const uint8_t> bytes, size_t first_offset = 0,
                                      std::optional<uint32_t> version = std::nullopt);

// decode_sequence(b) then encode_sequence gives b again, byte for byte.
// REQUIRES: in each section as many keys as values, each with one row a cell, all values in the same layout.
// streams: of the cache that will read it, where they are not those of the cache that wrote it; 0 = as they
// are.
std::vector<uint8_t> encode_sequence(const SequenceState& state, uint32_t streams = 0);

} // namespace kvfold
