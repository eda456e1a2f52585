// What must hold of any bytes that are read as a sequence state or as a slot file.
#pragma once

#include "state/slot_file.h"

#include <functional>

namespace kvfold::testing {

template <class T> struct Codec {
    std::function<Result<T>(std::span<const uint8_t>)> decode;
    std::function<std::vector<uint8_t>(const T&)> encode;
};

Codec<SequenceState> sequence_codec();
Codec<SlotFile> slot_codec();

// What is wrong; empty when all is as it must be:
// - decoding holds no more than a small multiple of the bytes;
// - an error is one line;
// - what decodes is encoded to the same bytes;
// - a position follows every cell's, and the folded region lies within the section;
// - cells can be taken out and put together again.
std::string wrong_with_sequence(std::span<const uint8_t> bytes, const Codec<SequenceState>& codec);
std::string wrong_with_slot(std::span<const uint8_t> bytes, const Codec<SlotFile>& codec);

// The two above with kvfold's own codecs.
std::string wrong_with_state_bytes(std::span<const uint8_t> bytes);

} // namespace kvfold::testing
