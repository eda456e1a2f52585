#include "state/sequence_state.h"

#include "base/format.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace kvfold {
namespace {

// Two sections are known (global, window); a few more may come. Bounds the work on nonsense.
constexpr size_t kMaxSections = 8;
constexpr size_t kCellBytes = 12;       // i32 pos, u32 sequence ids, i32 sequence id
constexpr size_t kRecordHeadBytes = 12; // i32 type, u64 row bytes

// The bytes do not say which kind of section or cell comes next, so more than one reading is tried.
struct Failure {
    size_t accepted; // headers and tensor records that were right: how far the reading got
    size_t offset;
    Error error;
};
template <class T> using Attempt = tl::expected<T, Failure>;

// Of two readings that failed the one that got further has the helpful error. Bytes are no measure for that:
// cells of 24 bytes walk through half a table of cells of 12 before anything looks wrong. Without a winner
// both are told.
Failure further(Failure a, Failure b, bool tell_both, const char* how_b_read) {
    if (b.accepted > a.accepted) return b;
    if (b.accepted == a.accepted && tell_both)
        a.error.message += kvfold::format("; {}: {}", how_b_read, b.error.message);
    return a;
}

constexpr uint32_t kNoNumber = UINT32_MAX;

struct Input {
    std::span<const uint8_t> bytes;
    size_t first_offset; // of bytes[0] in its file
    uint32_t version;
    bool has_extra;
};

// Where a reading stands; every error names the place.
class Cursor {
  public:
    Cursor(const Input& input, size_t offset, size_t section, size_t accepted)
        : input_(&input), offset_(offset), section_(section), accepted_(accepted) {}

    size_t offset() const { return offset_; }
    size_t accepted() const { return accepted_; }
    size_t remaining() const { return input_->bytes.size() - offset_; }

    // "header", or "layer 3 keys"
    void enter(const char* name, uint32_t number = kNoNumber, const char* part = "") {
        name_ = name, number_ = number, part_ = part;
    }

    // A header or record was right.
    void accept() { ++accepted_; }

    template <class... Args>
    tl::unexpected<Failure> failure(ErrorCode code, fmt::format_string<Args...> format,
                                    Args&&... args) const {
        const std::string number = number_ == kNoNumber ? "" : kvfold::format(" {}", number_);
        std::string message = kvfold::format("section {}, {}{}{}, offset {}: ", section_, name_, number,
                                             part_, input_->first_offset + offset_);
        message += kvfold::format(format, std::forward<Args>(args)...);
        return tl::unexpected(Failure{accepted_, offset_, Error{code, std::move(message)}});
    }

    template <class T> Attempt<T> read(const char* what) {
        T value = {};
        if (remaining() < sizeof(T))
            return failure(ErrorCode::corrupt, "expected {} ({} bytes), {} bytes are left", what, sizeof(T),
                           remaining());
        std::memcpy(&value, input_->bytes.data() + offset_, sizeof(T));
        offset_ += sizeof(T);
        return value;
    }

    // count items of size bytes; the product may be anything.
    Attempt<std::span<const uint8_t>> take(uint64_t count, uint64_t size, const char* what) {
        KVFOLD_CHECK(expect(count, size, what));
        const auto taken = input_->bytes.subspan(offset_, static_cast<size_t>(count * size));
        offset_ += taken.size();
        return taken;
    }

    Attempt<void> expect(uint64_t count, uint64_t size, const char* what) const {
        if (size != 0 && count > remaining() / size)
            return failure(ErrorCode::corrupt, "expected {} {} of at least {} bytes, {} bytes are left",
                           count, what, size, remaining());
        return {};
    }

  private:
    const Input* input_;
    size_t offset_;
    size_t section_;
    size_t accepted_;
    const char* name_ = "header";
    uint32_t number_ = kNoNumber;
    const char* part_ = "";
};

Attempt<ggml_type> read_type(Cursor& in) {
    const Cursor start = in;
    KVFOLD_TRY(const int32_t number, in.read<int32_t>("a tensor type"));
    // Some numbers inside the range are of types that ggml has dropped: no size.
    if (number < 0 || number >= GGML_TYPE_COUNT || ggml_type_size(static_cast<ggml_type>(number)) == 0)
        return start.failure(ErrorCode::corrupt, "expected a tensor type, got {}", number);
    return static_cast<ggml_type>(number);
}

Attempt<ggml_type> read_cache_type(Cursor& in) {
    const Cursor start = in;
    KVFOLD_TRY(const ggml_type type, read_type(in));
    if (!is_cache_type(type))
        return start.failure(ErrorCode::unsupported,
                             "expected a cache type (f32, f16, bf16, q8_0, q4_0, ...), got {}",
                             ggml_type_name(type));
    return type;
}

// i32 type, u64 row bytes, then a row a cell.
Attempt<CacheTensor> read_rows(Cursor& in, size_t cells) {
    CacheTensor tensor;
    KVFOLD_TRY(tensor.type, read_cache_type(in));
    const Cursor start = in;
    KVFOLD_TRY(const uint64_t row_bytes, in.read<uint64_t>("the row size"));
    const uint64_t unit = ggml_type_size(tensor.type);
    const uint64_t blocks = row_bytes / unit;
    const uint64_t block = static_cast<uint64_t>(ggml_blck_size(tensor.type));
    if (blocks == 0 || row_bytes % unit != 0 || blocks > UINT32_MAX / block)
        return start.failure(ErrorCode::corrupt, "expected a row size that is a multiple of {} ({}), got {}",
                             unit, ggml_type_name(tensor.type), row_bytes);
    tensor.width = static_cast<uint32_t>(blocks * block);
    KVFOLD_TRY(const auto bytes, in.take(cells, row_bytes, "rows"));
    tensor.bytes.assign(bytes.begin(), bytes.end());
    in.accept();
    return tensor;
}

// i32 type, u32 element bytes, u32 width, then width times an element a cell.
Attempt<CacheTensor> read_columns(Cursor& in, size_t cells) {
    CacheTensor tensor;
    tensor.transposed = true;
    Cursor start = in;
    KVFOLD_TRY(tensor.type, read_cache_type(in));
    if (ggml_blck_size(tensor.type) != 1)
        return start.failure(ErrorCode::corrupt,
                             "expected a type without blocks for transposed values, got {}",
                             ggml_type_name(tensor.type));
    start = in;
    KVFOLD_TRY(const uint32_t element, in.read<uint32_t>("the element size"));
    if (element != ggml_type_size(tensor.type))
        return start.failure(ErrorCode::corrupt, "expected an element size of {} ({}), got {}",
                             ggml_type_size(tensor.type), ggml_type_name(tensor.type), element);
    start = in;
    KVFOLD_TRY(tensor.width, in.read<uint32_t>("the width"));
    if (tensor.width == 0) return start.failure(ErrorCode::corrupt, "expected a width above 0");
    // cells <= bytes / kCellBytes was checked before, so that this product cannot overflow
    KVFOLD_TRY(const auto bytes, in.take(tensor.width, uint64_t{element} * cells, "columns"));
    tensor.bytes.assign(bytes.begin(), bytes.end());
    in.accept();
    return tensor;
}

Attempt<CellMeta> read_cell(Cursor& in, bool has_extra) {
    CellMeta cell;
    Cursor start = in;
    KVFOLD_TRY(cell.pos, in.read<int32_t>("a position"));
    if (cell.pos < 0 || cell.pos == INT32_MAX) // the next token's position is one more
        return start.failure(ErrorCode::corrupt, "expected a position from 0 to {}, got {}", INT32_MAX - 1,
                             cell.pos);
    start = in;
    KVFOLD_TRY(const uint32_t ids, in.read<uint32_t>("the number of sequence ids"));
    if (ids != 1) return start.failure(ErrorCode::corrupt, "expected 1 sequence id, got {}", ids);
    if (has_extra) {
        KVFOLD_TRY(cell.extra, in.read<decltype(cell.extra)>("extra position data"));
    }
    KVFOLD_TRY(cell.seq_id, in.read<int32_t>("a sequence id"));
    return cell;
}

Attempt<void> read_values(Cursor& in, KvSection& section, uint32_t layers) {
    const size_t cells = section.cells.size();
    for (uint32_t layer = 0; layer < layers; ++layer) {
        in.enter("layer", layer, " values");
        // Models with multi-head latent attention save keys only. They cannot be told for sure from bytes
        // that were cut off or damaged here, so the error says both.
        if (layer == 0 && in.remaining() == 0)
            return in.failure(ErrorCode::unsupported,
                              "expected values after {} layers of keys: the state is cut off, "
                              "or the model keeps none (MLA), which is not supported",
                              layers);
        const size_t start = in.offset();
        auto tensor = section.values_transposed ? read_columns(in, cells) : read_rows(in, cells);
        if (!tensor) {
            Failure failure = std::move(tensor).error();
            if (layer == 0 && failure.offset <= start + sizeof(int32_t))
                failure.error.message += " (or the model keeps no values (MLA), which is not supported)";
            return tl::unexpected(std::move(failure));
        }
        section.values.push_back(*std::move(tensor));
    }
    return {};
}

// Cells and layers of the one stream that is in use.
Attempt<void> read_stream(Cursor& in, const Input& input, KvSection& section, uint32_t cells) {
    const bool has_extra = input.has_extra;
    KVFOLD_CHECK(in.expect(cells, kCellBytes + (has_extra ? sizeof(CellMeta::extra) : 0), "cells"));
    section.has_extra = has_extra;
    section.cells.reserve(cells);
    for (uint32_t i = 0; i < cells; ++i) {
        in.enter("cell", i);
        KVFOLD_TRY(const CellMeta cell, read_cell(in, has_extra));
        section.cells.push_back(cell);
    }
    in.enter("header");
    const Cursor start = in;
    KVFOLD_TRY(const uint32_t transposed, in.read<uint32_t>("v_trans"));
    if (transposed > 1)
        return start.failure(ErrorCode::corrupt, "expected v_trans to be 0 or 1, got {}", transposed);
    section.values_transposed = transposed == 1;
    KVFOLD_TRY(const uint32_t layers, in.read<uint32_t>("the number of layers"));
    KVFOLD_CHECK(in.expect(layers, kRecordHeadBytes + cells, "layers"));
    if (input.version >= kVersionWithRotation) {
        KVFOLD_TRY(section.rotation, in.read<Rotation>("the rotation"));
    }
    in.accept();
    section.keys.reserve(layers);
    section.values.reserve(layers);
    for (uint32_t layer = 0; layer < layers; ++layer) {
        in.enter("layer", layer, " keys");
        KVFOLD_TRY(CacheTensor tensor, read_rows(in, cells));
        section.keys.push_back(std::move(tensor));
    }
    return read_values(in, section, layers);
}

Attempt<KvSection> read_kv_section(Cursor& in, const Input& input) {
    KvSection section;
    in.enter("header");
    Cursor start = in;
    KVFOLD_TRY(section.streams, in.read<uint32_t>("the number of streams"));
    if (section.streams == 0)
        return start.failure(ErrorCode::corrupt, "expected a number of streams above 0, got 0");
    KVFOLD_CHECK(in.expect(section.streams, sizeof(uint32_t), "streams"));
    for (uint32_t stream = 0; stream < section.streams; ++stream) {
        in.enter("stream", stream);
        start = in;
        KVFOLD_TRY(const uint32_t cells, in.read<uint32_t>("the number of cells"));
        if (cells == 0) continue;
        if (!section.cells.empty())
            return start.failure(ErrorCode::corrupt,
                                 "expected no cells, a sequence lives in one stream and stream {} "
                                 "has {}",
                                 section.stream, section.cells.size());
        section.stream = stream;
        KVFOLD_CHECK(read_stream(in, input, section, cells));
    }
    return section;
}

struct RecurrentRecord {
    int32_t type;
    uint64_t row_bytes;
    bool operator==(const RecurrentRecord&) const = default;
};

// All records of the one half are alike, and so are those of the other. The halves differ in every known
// model (a short convolution against a large state); without that a section cut between records could pass.
bool two_even_halves(const std::vector<RecurrentRecord>& records) {
    const size_t half = records.size() / 2;
    if (half == 0 || records.size() % 2 != 0 || records[0] == records[half]) return false;
    for (size_t i = 0; i < half; ++i)
        if (records[i] != records[0] || records[half + i] != records[half]) return false;
    return true;
}

// A recurrent section is passed through as it is, so it is only walked, up to the last byte of the state.
// Which layers have records is not written down.
Attempt<void> walk_recurrent_section(Cursor& in) {
    in.enter("recurrent header");
    KVFOLD_TRY(const uint32_t cells, in.read<uint32_t>("the number of cells"));
    KVFOLD_CHECK(in.expect(cells, 2 * sizeof(uint32_t), "cells"));
    for (uint32_t i = 0; i < cells; ++i) {
        in.enter("recurrent cell", i);
        KVFOLD_TRY([[maybe_unused]] const int32_t pos, in.read<int32_t>("a position"));
        const Cursor start = in;
        KVFOLD_TRY(const uint32_t ids, in.read<uint32_t>("the number of sequence ids"));
        if (ids != 0) return start.failure(ErrorCode::corrupt, "expected 0 sequence ids, got {}", ids);
    }
    in.enter("recurrent header");
    const Cursor start = in;
    KVFOLD_TRY(const uint32_t s_trans, in.read<uint32_t>("s_trans"));
    if (s_trans != 0)
        return start.failure(ErrorCode::unsupported, "expected s_trans to be 0, got {}", s_trans);
    KVFOLD_TRY(const uint32_t layers, in.read<uint32_t>("the number of layers"));
    in.accept();

    std::vector<RecurrentRecord> records;
    while (in.remaining() > 0) {
        in.enter("recurrent record", static_cast<uint32_t>(records.size()));
        if (records.size() / 2 >= layers)
            return in.failure(ErrorCode::corrupt, "expected the end after {} layers, {} bytes are left",
                              layers, in.remaining());
        KVFOLD_TRY(const ggml_type type, read_type(in));
        const Cursor size_start = in;
        KVFOLD_TRY(const uint64_t row_bytes, in.read<uint64_t>("the row size"));
        if (row_bytes % ggml_type_size(type) != 0)
            return size_start.failure(ErrorCode::corrupt,
                                      "expected a row size that is a multiple of {} ({}), got {}",
                                      ggml_type_size(type), ggml_type_name(type), row_bytes);
        KVFOLD_TRY([[maybe_unused]] const auto rows, in.take(cells, row_bytes, "rows"));
        records.push_back({type, row_bytes});
        in.accept();
    }
    if (!two_even_halves(records))
        return in.failure(ErrorCode::corrupt,
                          "expected as many R as S records, each kind of one size, got {} records",
                          records.size());
    return {};
}

// Appends the sections from `from` on to `state`. Recurrent comes first: its cells carry no sequence ids and
// those of an attention cache always one, while a recurrent cell at position 0 can pass for an empty
// attention cache.
Attempt<void> read_sections(const Input& input, const Cursor& from, SequenceState& state) {
    const size_t index = state.sections.size();
    if (index > 0 && from.remaining() == 0) return {};
    const Cursor start(input, from.offset(), index, from.accepted());
    if (index == kMaxSections)
        return start.failure(ErrorCode::corrupt, "expected the end after {} sections, {} bytes are left",
                             index, start.remaining());
    Cursor recurrent = start;
    auto walked = walk_recurrent_section(recurrent);
    if (walked && index == 0)
        return start.failure(ErrorCode::unsupported,
                             "expected an attention cache, this model keeps only a recurrent state");
    if (walked) {
        const auto rest = input.bytes.subspan(start.offset());
        state.recurrent.assign(rest.begin(), rest.end());
        return {};
    }

    Cursor attention = start;
    auto section = read_kv_section(attention, input);
    if (!section)
        return tl::unexpected(further(std::move(section).error(), std::move(walked).error(),
                                      /*tell_both=*/index > 0, "as a recurrent section"));
    state.sections.push_back(*std::move(section));
    return read_sections(input, attention, state);
}

} // namespace

Result<SequenceState> decode_sequence(std::span<const uint8_t> bytes, size_t first_offset,
                                      std::optional<uint32_t> version) {
    std::optional<Failure> failure;
    for (const uint32_t tried : {kFirstVersion, kVersionWithRotation}) {
        if (version && *version != tried) continue;
        for (const bool has_extra : {false, true}) {
            const Input input{bytes, first_offset, tried, has_extra};
            SequenceState state{{}, {}, tried};
            auto attempt = read_sections(input, Cursor(input, 0, 0, 0), state);
            if (attempt) return state;
            if (!failure) {
                failure = std::move(attempt).error();
                continue;
            }
            const bool tell_both = attempt.error().offset > failure->offset && tried == kFirstVersion;
            failure = further(*std::move(failure), std::move(attempt).error(), tell_both,
                              "with extra position data");
        }
    }
    return tl::unexpected(std::move(failure->error));
}

} // namespace kvfold
