// What must hold of any bytes that are read as an archive file.
#pragma once

#include "engine/archive_file.h"

#include <functional>

namespace kvfold::testing {

struct ArchiveCodec {
    std::function<Result<StoredFolds>(std::span<const uint8_t>)> decode = [](std::span<const uint8_t> bytes) {
        return decode_archive(bytes);
    };
    std::function<void(const StoredFolds&, const WritePiece&)> encode = encode_archive;
};

// What is wrong; empty when all is as it must be:
// - decoding holds no more than a small multiple of the bytes;
// - an error is one line;
// - what decodes is encoded to the same bytes;
// - a section has a row for each cell, and the positions of a fold lie in it.
std::string wrong_with_archive(std::span<const uint8_t> bytes, const ArchiveCodec& codec);

// As they are, and with the fingerprint that they would need: else nothing but the fingerprint would be
// looked at.
std::string wrong_with_archive_bytes(std::span<const uint8_t> bytes);
std::string wrong_with_archive_bytes(std::span<const uint8_t> bytes, const ArchiveCodec& codec);

} // namespace kvfold::testing
