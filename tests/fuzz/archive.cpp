#include "fuzz/archive.h"

#include "base/format.h"
#include "fuzz/allocations.h"
#include "support/stored_folds.h"

#include <algorithm>

namespace kvfold::testing {
namespace {

// A fold's lists of tensors, and a cell, are larger than what must be there for them.
constexpr size_t kMostTimesArchived = 16, kBytesBesideArchive = 4096;

std::string wrong_with_cells(const KvSection& section, int32_t begin, int32_t end) {
    const auto lies_in = [&](const CellMeta& cell) { return cell.pos >= begin && cell.pos < end; };
    if (!std::ranges::all_of(section.cells, lies_in)) return "a cell lies outside of its fold";
    for (const auto* tensors : {&section.keys, &section.values})
        for (const CacheTensor& tensor : *tensors)
            if (tensor.cell_count() != section.cells.size()) return "an archived tensor has not a row a cell";
    return "";
}

} // namespace

std::string wrong_with_archive(std::span<const uint8_t> bytes, const ArchiveCodec& codec) {
    const AllocationPeak peak;
    const Result<StoredFolds> stored = codec.decode(bytes);
    if (const size_t most = kMostTimesArchived * bytes.size() + kBytesBesideArchive; peak.bytes() > most)
        return kvfold::format("decoding {} bytes held {}, more than {}", bytes.size(), peak.bytes(), most);
    if (!stored) {
        const std::string& message = stored.error().message;
        return !message.empty() && message.find('\n') == std::string::npos ? "" : "an error is not one line";
    }
    Bytes encoded;
    codec.encode(*stored, [&](std::span<const uint8_t> piece) {
        encoded.insert(encoded.end(), piece.begin(), piece.end());
        return true;
    });
    if (!std::ranges::equal(encoded, bytes)) return "what was decoded is encoded to other bytes";
    for (const auto& fold : stored->folds)
        for (std::string wrong : {wrong_with_cells(fold->folded, 0, fold->begin),
                                  wrong_with_cells(fold->originals, fold->begin, fold->end)})
            if (!wrong.empty()) return wrong;
    return "";
}

std::string wrong_with_archive_bytes(std::span<const uint8_t> bytes, const ArchiveCodec& codec) {
    const std::string wrong = wrong_with_archive(bytes, codec);
    if (!wrong.empty() || bytes.size() < sizeof(uint64_t)) return wrong;
    return wrong_with_archive(with_fingerprint({bytes.begin(), bytes.end()}), codec);
}

std::string wrong_with_archive_bytes(std::span<const uint8_t> bytes) {
    return wrong_with_archive_bytes(bytes, ArchiveCodec());
}

} // namespace kvfold::testing
