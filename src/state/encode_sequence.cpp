#include "state/sequence_state.h"

#include <cstring>

namespace kvfold {
namespace {

template <class T> void put(std::vector<uint8_t>& out, const T& value) {
    const size_t at = out.size();
    out.resize(at + sizeof(T));
    std::memcpy(out.data() + at, &value, sizeof(T));
}

void put_tensor(std::vector<uint8_t>& out, const CacheTensor& tensor) {
    put<int32_t>(out, tensor.type);
    if (tensor.transposed) {
        put<uint32_t>(out, static_cast<uint32_t>(ggml_type_size(tensor.type)));
        put<uint32_t>(out, tensor.width);
    } else {
        put<uint64_t>(out, tensor.row_bytes());
    }
    out.insert(out.end(), tensor.bytes.begin(), tensor.bytes.end());
}

void put_stream(std::vector<uint8_t>& out, const KvSection& section, uint32_t version) {
    for (const CellMeta& cell : section.cells) {
        put(out, cell.pos);
        put<uint32_t>(out, 1);
        if (section.has_extra) put(out, cell.extra);
        put(out, cell.seq_id);
    }
    put<uint32_t>(out,
                  section.values.empty() ? section.values_transposed : section.values.front().transposed);
    put<uint32_t>(out, static_cast<uint32_t>(section.keys.size()));
    if (version >= kVersionWithRotation) put(out, section.rotation);
    for (const CacheTensor& keys : section.keys)
        put_tensor(out, keys);
    for (const CacheTensor& values : section.values)
        put_tensor(out, values);
}

} // namespace

std::vector<uint8_t> encode_sequence(const SequenceState& state, uint32_t streams) {
    std::vector<uint8_t> out;
    for (const KvSection& section : state.sections) {
        const uint32_t count = streams > 0 ? streams : section.streams,
                       used_stream = streams > 0 ? 0 : section.stream;
        put(out, count);
        for (uint32_t stream = 0; stream < count; ++stream) {
            const bool used = stream == used_stream;
            put<uint32_t>(out, used ? static_cast<uint32_t>(section.cells.size()) : 0);
            if (used && !section.cells.empty()) put_stream(out, section, state.version);
        }
    }
    out.insert(out.end(), state.recurrent.begin(), state.recurrent.end());
    return out;
}

} // namespace kvfold
