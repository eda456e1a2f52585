// The bytes of an archive file. Every array begins at a multiple of 64 bytes, and keys and values stand head
// by head, so that a mapped file could be scanned in place; kvfold reads it into memory. The format is
// written down in docs/state-format.md.
#pragma once

#include "base/file.h"
#include "engine/archive.h"
#include "model/probe.h"

namespace kvfold {

struct StoredFolds {
    uint64_t mark = 0;           // of the newest, in the sequence (kept_folds.h)
    std::vector<uint32_t> heads; // of each layer of a section: keys and values are written head by head
    std::vector<std::shared_ptr<const ReplacedCells>>
        folds; // at least one; each begins where the one before ends
};

// REQUIRES: folds, all of one cache, and the heads of its layers.
void encode_archive(const StoredFolds& stored, const WritePiece& write);

// Strict to the last byte. Fails with `corrupt` or `unsupported`, naming the offset. Allocates no more than a
// small multiple of bytes.size(). map: where its cells will be recalled again and again, with blocks of their
// keys; fails with invalid_argument, too, where the layers are not those of the map.
Result<StoredFolds> decode_archive(std::span<const uint8_t> bytes, const AttentionMap* map = nullptr);

// Of bytes that begin like an archive: StoredFolds::mark. Nothing: they do not.
std::optional<uint64_t> mark_of_archive(std::span<const uint8_t> bytes);

// Whether so many heads part a cell of the tensor into whole blocks of its type.
bool parts_cells(uint32_t heads, const CacheTensor& tensor);

} // namespace kvfold
