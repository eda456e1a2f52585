#include "fuzz/sequence_state.h"

#include "base/format.h"
#include "fuzz/allocations.h"
#include "state/checkpoints.h"
#include "state/folded_region.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace kvfold::testing {
namespace {

// The two lists of tensors of a section take 80 bytes a layer, for which at least 13 bytes must be there.
constexpr size_t kMostTimesTheBytes = 8, kBytesBeside = 4096;

const SequenceState& sequence_of(const SequenceState& state) { return state; }
const SequenceState& sequence_of(const SlotFile& slot) { return slot.state; }

bool same(const CacheTensor& a, const CacheTensor& b) {
    return a.type == b.type && a.width == b.width && a.transposed == b.transposed && a.bytes == b.bytes;
}

bool same_cells(const KvSection& a, const KvSection& b) {
    const auto same_cell = [](const CellMeta& x, const CellMeta& y) {
        return x.pos == y.pos && x.seq_id == y.seq_id && x.extra == y.extra;
    };
    return std::equal(a.cells.begin(), a.cells.end(), b.cells.begin(), b.cells.end(), same_cell) &&
           std::equal(a.keys.begin(), a.keys.end(), b.keys.begin(), b.keys.end(), same) &&
           std::equal(a.values.begin(), a.values.end(), b.values.begin(), b.values.end(), same);
}

std::string wrong_with_tensor(const CacheTensor& tensor, size_t cells) {
    if (tensor.cell_count() != cells) return "a tensor has not a row a cell";
    const Matrix rows = to_float(tensor);
    if (rows.rows() != static_cast<Index>(cells) || rows.cols() != static_cast<Index>(tensor.width))
        return "a tensor has another shape as numbers";
    return "";
}

std::string wrong_with_section(const KvSection& section) {
    if (section.cells.empty()) return "";
    const auto fits = [](const CellMeta& cell) {
        return cell.pos >= 0 && cell.pos < std::numeric_limits<int32_t>::max();
    };
    if (!std::all_of(section.cells.begin(), section.cells.end(), fits))
        return "a cell has a position that none can follow";
    for (const auto* tensors : {&section.keys, &section.values})
        for (const CacheTensor& tensor : *tensors)
            if (std::string wrong = wrong_with_tensor(tensor, section.cells.size()); !wrong.empty())
                return wrong;
    const FoldedRegion region = folded_region(sorted_positions(section));
    if (region.end < 0 || region.cells > section.cells.size())
        return "the folded region lies outside of the section";
    std::vector<uint32_t> all(section.cells.size());
    std::iota(all.begin(), all.end(), 0u);
    const std::span<const uint32_t> cells(all);
    const size_t half = all.size() / 2;
    KvSection joined = take_cells(section, cells.first(half));
    append_cells(joined, take_cells(section, cells.subspan(half)));
    return same_cells(joined, section) ? "" : "two halves do not give the section";
}

template <class T> std::string wrong_with(std::span<const uint8_t> bytes, const Codec<T>& codec) {
    const AllocationPeak peak;
    const Result<T> decoded = codec.decode(bytes);
    if (const size_t most = kMostTimesTheBytes * bytes.size() + kBytesBeside; peak.bytes() > most)
        return kvfold::format("decoding {} bytes held {}, more than {}", bytes.size(), peak.bytes(), most);
    if (!decoded) {
        const std::string& message = decoded.error().message;
        const bool one_line = !message.empty() && message.find('\n') == std::string::npos;
        return one_line ? "" : "an error is not one line";
    }
    const std::vector<uint8_t> encoded = codec.encode(*decoded);
    if (!std::equal(encoded.begin(), encoded.end(), bytes.begin(), bytes.end()))
        return "what was decoded is encoded to other bytes";
    for (const KvSection& section : sequence_of(*decoded).sections)
        if (std::string wrong = wrong_with_section(section); !wrong.empty()) return wrong;
    return "";
}

} // namespace

Codec<SequenceState> sequence_codec() {
    return {[](std::span<const uint8_t> bytes) { return decode_sequence(bytes); },
            [](const SequenceState& state) { return encode_sequence(state); }};
}

Codec<SlotFile> slot_codec() { return {decode_slot, encode_slot}; }

std::string wrong_with_sequence(std::span<const uint8_t> bytes, const Codec<SequenceState>& codec) {
    return wrong_with(bytes, codec);
}

std::string wrong_with_slot(std::span<const uint8_t> bytes, const Codec<SlotFile>& codec) {
    return wrong_with(without_checkpoints(bytes), codec);
}

std::string wrong_with_state_bytes(std::span<const uint8_t> bytes) {
    const std::string wrong = wrong_with_slot(bytes, slot_codec());
    return wrong.empty() ? wrong_with_sequence(bytes, sequence_codec()) : wrong;
}

} // namespace kvfold::testing
