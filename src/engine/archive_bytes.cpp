#include "engine/archive_bytes.h"

#include "base/fingerprint.h"
#include "engine/layers.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

namespace kvfold {

namespace {

constexpr std::array<uint8_t, 4> kMagic = {'k', 'v', 'f', 'a'};
constexpr uint32_t kVersion = 2;
constexpr size_t kAlignment = 64; // a cache line, and a multiple of what the fingerprint reads at once

struct Header {
    std::array<uint8_t, 4> magic = kMagic;
    uint32_t version = kVersion;
    uint64_t mark = 0;
    uint32_t layers = 0, folds = 0;
    uint32_t has_extra = 0;
    Rotation rotation;
    uint32_t zero = 0;
};
static_assert(sizeof(Header) == 40);

struct LayerHeader {
    int32_t key_type = 0;
    uint32_t key_width = 0;
    int32_t value_type = 0;
    uint32_t value_width = 0;
    uint32_t values_transposed = 0;
    uint32_t heads = 0;
};

struct FoldHeader {
    int32_t begin = 0, end = 0;
    uint32_t kept = 0, folded = 0, originals = 0;
    uint32_t made_cells = 0;
};

// Rows of all heads become rows of one head after the other, or the other way round. The columns of a
// transposed tensor stand head by head as they are. [cells, heads, width] and [heads, cells, width]
void regroup(const CacheTensor& tensor, size_t cells, size_t heads, bool by_head, const uint8_t* from,
             uint8_t* to) {
    if (tensor.transposed) {
        std::memcpy(to, from, cells * tensor.row_bytes());
        return;
    }
    const size_t row = tensor.row_bytes(), width = row / heads;
    for (size_t head = 0; head < heads; ++head) {
        for (size_t cell = 0; cell < cells; ++cell) {
            const size_t in_row = cell * row + head * width, in_head = (head * cells + cell) * width;
            std::memcpy(to + (by_head ? in_head : in_row), from + (by_head ? in_row : in_head), width);
        }
    }
}

// Gathers what goes together, and gives it away with its padding.
class Output {
  public:
    explicit Output(const WritePiece& write) : write_(write) {}

    template <class T> void put(const T& value) {
        const size_t at = pending_.size();
        pending_.resize(at + sizeof(T));
        std::memcpy(pending_.data() + at, &value, sizeof(T));
    }
    void put(const CacheTensor& tensor, uint32_t heads) {
        if (tensor.bytes.empty()) return;
        pending_.resize(tensor.bytes.size());
        regroup(tensor, tensor.cell_count(), heads, /*by_head=*/true, tensor.bytes.data(), pending_.data());
        end_part();
    }
    void end_part() {
        pending_.resize((pending_.size() + kAlignment - 1) / kAlignment * kAlignment);
        hash_ = fingerprint(pending_, hash_);
        give();
    }
    void end_file() {
        put(hash_);
        give();
    }

  private:
    void give() {
        is_wanted_ = is_wanted_ && write_(pending_);
        pending_.clear();
    }

    const WritePiece& write_;
    std::vector<uint8_t> pending_;
    uint64_t hash_ = fingerprint({});
    bool is_wanted_ = true;
};

void put_cells(Output& out, const KvSection& section, std::span<const LayerHeader> layers) {
    for (size_t layer = 0; layer < layers.size(); ++layer) {
        out.put(section.keys[layer], layers[layer].heads);
        out.put(section.values[layer], layers[layer].heads);
    }
}

void put_fold(Output& out, const ReplacedCells& fold, std::span<const LayerHeader> layers) {
    out.put(FoldHeader{fold.begin, fold.end, static_cast<uint32_t>(fold.kept.size()),
                       static_cast<uint32_t>(fold.folded.cells.size()),
                       static_cast<uint32_t>(fold.originals.cells.size()), fold.made_cells ? 1u : 0u});
    for (const KvSection* section : {&fold.folded, &fold.originals}) {
        for (const CellMeta& cell : section->cells) {
            out.put(cell.pos);
            if (fold.originals.has_extra) out.put(cell.extra);
        }
    }
    for (const uint32_t cell : fold.kept)
        out.put(cell);
    out.put(static_cast<uint32_t>(fold.kept_keys.size()));
    for (const std::vector<int32_t>& of_head : fold.kept_keys) {
        out.put(static_cast<uint32_t>(of_head.size()));
        for (const int32_t pos : of_head)
            out.put(pos);
    }
    out.end_part();
    put_cells(out, fold.folded, layers);
    put_cells(out, fold.originals, layers);
}

// Where a reading stands.
class Input {
  public:
    explicit Input(std::span<const uint8_t> bytes) : bytes_(bytes) {}

    template <class... Args>
    tl::unexpected<Error> failure(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) const {
        return fail(code, "archive, offset {}: {}", offset_,
                    kvfold::format(format, std::forward<Args>(args)...));
    }
    // count items of size bytes; the product may be anything.
    Result<std::span<const uint8_t>> take(uint64_t count, uint64_t size, const char* what) {
        const size_t left = bytes_.size() - offset_;
        if (size != 0 && count > left / size)
            return failure(ErrorCode::corrupt, "expected {}, {} times {} bytes, {} bytes are left", what,
                           count, size, left);
        const auto taken = bytes_.subspan(offset_, static_cast<size_t>(count * size));
        offset_ += taken.size();
        return taken;
    }
    template <class T> Result<T> read(const char* what) {
        KVFOLD_TRY(const auto bytes, take(1, sizeof(T), what));
        T value = {};
        std::memcpy(static_cast<void*>(&value), bytes.data(), sizeof(T));
        return value;
    }
    // Zeros up to the next multiple of the alignment.
    Status end_part() {
        const size_t padding = (kAlignment - offset_ % kAlignment) % kAlignment;
        const Input start = *this;
        KVFOLD_TRY(const auto zeros, take(padding, 1, "zeros"));
        if (std::ranges::all_of(zeros, [](uint8_t byte) { return byte == 0; })) return {};
        return start.failure(ErrorCode::corrupt, "expected {} zeros", padding);
    }
    bool is_at_end() const { return offset_ == bytes_.size(); }

  private:
    std::span<const uint8_t> bytes_;
    size_t offset_ = 0;
};

// A tensor without cells, of which the others are made.
Result<CacheTensor> tensor_of(const Input& in, int32_t type, uint32_t width, bool is_transposed,
                              uint32_t heads) {
    if (type < 0 || type >= GGML_TYPE_COUNT || !is_cache_type(static_cast<ggml_type>(type)))
        return in.failure(ErrorCode::unsupported, "expected a cache type (f32, f16, q8_0, ...), got {}",
                          type);
    CacheTensor tensor{static_cast<ggml_type>(type), width, is_transposed, {}};
    const bool is_whole = width > 0 && parts_cells(heads, tensor);
    if (!is_whole || (is_transposed && ggml_blck_size(tensor.type) != 1))
        return in.failure(ErrorCode::corrupt, "expected heads of whole blocks of {}, got {} in {} elements{}",
                          ggml_type_name(tensor.type), heads, width, is_transposed ? ", transposed" : "");
    return tensor;
}

struct Cache {
    KvSection empty;
    std::vector<LayerHeader> layers;
};

Result<Cache> read_cache(Input& in, const Header& header) {
    Cache cache;
    cache.empty.has_extra = header.has_extra == 1;
    cache.empty.rotation = header.rotation;
    const Input start = in;
    KVFOLD_TRY([[maybe_unused]] const auto all, Input(in).take(header.layers, sizeof(LayerHeader), "layers"));
    if (header.layers == 0 || header.folds == 0 || header.has_extra > 1 || header.zero != 0)
        return start.failure(ErrorCode::corrupt,
                             "expected layers, folds, a flag and 0 before it; got {}, {}, {} and {}",
                             header.layers, header.folds, header.has_extra, header.zero);
    for (uint32_t i = 0; i < header.layers; ++i) {
        const Input here = in;
        KVFOLD_TRY(const LayerHeader layer, in.read<LayerHeader>("a layer"));
        if (layer.values_transposed > 1)
            return here.failure(ErrorCode::corrupt, "expected a layout of 0 or 1, got {}",
                                layer.values_transposed);
        KVFOLD_TRY(CacheTensor keys, tensor_of(here, layer.key_type, layer.key_width, false, layer.heads));
        KVFOLD_TRY(CacheTensor values, tensor_of(here, layer.value_type, layer.value_width,
                                                 layer.values_transposed == 1, layer.heads));
        cache.empty.values_transposed = values.transposed;
        cache.empty.keys.push_back(std::move(keys));
        cache.empty.values.push_back(std::move(values));
        cache.layers.push_back(layer);
    }
    KVFOLD_CHECK(in.end_part());
    return cache;
}

// Positions that rise, in [begin, end).
Status read_positions(Input& in, KvSection& section, uint32_t count, int32_t begin, int32_t end) {
    const size_t extra = section.has_extra ? sizeof(CellMeta::extra) : 0;
    KVFOLD_TRY([[maybe_unused]] const auto all, Input(in).take(count, sizeof(int32_t) + extra, "cells"));
    section.cells.reserve(count);
    for (uint32_t i = 0; i < count; ++i) {
        const Input here = in;
        CellMeta cell;
        KVFOLD_TRY(cell.pos, in.read<int32_t>("a position"));
        const int32_t least = section.cells.empty() ? begin : section.cells.back().pos;
        if (cell.pos < least || cell.pos >= end)
            return here.failure(ErrorCode::corrupt, "expected a position from {} to {}, got {}", least,
                                end - 1, cell.pos);
        if (section.has_extra) {
            KVFOLD_TRY(cell.extra, in.read<decltype(cell.extra)>("extra position data"));
        }
        section.cells.push_back(cell);
    }
    return {};
}

// Numbers that rise.
template <class T> Result<std::vector<T>> read_rising(Input& in, uint32_t count, T below, const char* what) {
    const Input start = in;
    KVFOLD_TRY(const auto bytes, in.take(count, sizeof(T), what));
    std::vector<T> numbers(count);
    std::memcpy(numbers.data(), bytes.data(), bytes.size());
    const bool do_rise = std::ranges::adjacent_find(numbers, std::greater_equal()) == numbers.end();
    if (do_rise && (numbers.empty() || (numbers.front() >= 0 && numbers.back() < below))) return numbers;
    return start.failure(ErrorCode::corrupt, "expected {} rising {} below {}", count, what, below);
}

Result<KeptKeys> read_kept_keys(Input& in, int32_t end) {
    KVFOLD_TRY(const auto heads, in.read<uint32_t>("a number of heads"));
    KVFOLD_TRY([[maybe_unused]] const auto all, Input(in).take(heads, sizeof(uint32_t), "heads"));
    KeptKeys kept(heads);
    for (std::vector<int32_t>& of_head : kept) {
        KVFOLD_TRY(const auto count, in.read<uint32_t>("a number of kept keys"));
        KVFOLD_TRY(of_head, read_rising<int32_t>(in, count, end, "positions"));
    }
    return kept;
}

Status read_tensor(Input& in, CacheTensor& tensor, size_t cells, uint32_t heads) {
    KVFOLD_TRY(const auto bytes, in.take(cells, tensor.row_bytes(), "rows"));
    tensor.bytes.resize(bytes.size());
    regroup(tensor, cells, heads, /*by_head=*/false, bytes.data(), tensor.bytes.data());
    return in.end_part();
}

Status read_cells(Input& in, KvSection& section, const Cache& cache) {
    if (section.cells.empty()) return {};
    for (size_t layer = 0; layer < cache.layers.size(); ++layer) {
        const uint32_t heads = cache.layers[layer].heads;
        KVFOLD_CHECK(read_tensor(in, section.keys[layer], section.cells.size(), heads));
        KVFOLD_CHECK(read_tensor(in, section.values[layer], section.cells.size(), heads));
    }
    return {};
}

Result<ReplacedCells> read_fold(Input& in, const Cache& cache, int32_t least, const AttentionMap* map) {
    const Input start = in;
    KVFOLD_TRY(const FoldHeader header, in.read<FoldHeader>("a fold"));
    const bool follows = least < 0 ? header.begin >= 0 : header.begin == least;
    if (!follows || header.end <= header.begin || header.originals == 0 || header.kept > header.originals)
        return start.failure(ErrorCode::corrupt,
                             "expected a fold that goes on at {}, got {} to {}, {} of {} cells",
                             std::max(least, 0), header.begin, header.end, header.kept, header.originals);
    if (header.made_cells > 1)
        return start.failure(ErrorCode::corrupt, "expected a flag of 0 or 1, got {}", header.made_cells);
    ReplacedCells fold{header.begin, header.end, cache.empty, cache.empty};
    fold.made_cells = header.made_cells == 1;
    KVFOLD_CHECK(read_positions(in, fold.folded, header.folded, 0, header.begin));
    KVFOLD_CHECK(read_positions(in, fold.originals, header.originals, header.begin, header.end));
    KVFOLD_TRY(fold.kept, read_rising<uint32_t>(in, header.kept, header.originals, "kept cells"));
    KVFOLD_TRY(fold.kept_keys, read_kept_keys(in, header.end));
    KVFOLD_CHECK(in.end_part());
    KVFOLD_CHECK(read_cells(in, fold.folded, cache));
    KVFOLD_CHECK(read_cells(in, fold.originals, cache));
    if (map) fold.blocks = block_keys(*map, fold.originals, replaced_originals(fold));
    return fold;
}

Result<StoredFolds> decode_body(std::span<const uint8_t> bytes, const Header& header,
                                const AttentionMap* map) {
    Input in(bytes);
    KVFOLD_TRY([[maybe_unused]] const Header again, in.read<Header>("a header"));
    KVFOLD_CHECK(in.end_part());
    KVFOLD_TRY(const Cache cache, read_cache(in, header));
    if (const std::string other = map ? differs_in_layers(*map, cache.empty) : ""; !other.empty())
        return fail(ErrorCode::invalid_argument, "archive of another model: {}", other);
    StoredFolds stored{header.mark, {}, {}};
    for (const LayerHeader& layer : cache.layers)
        stored.heads.push_back(layer.heads);
    for (uint32_t i = 0; i < header.folds; ++i) {
        KVFOLD_TRY(ReplacedCells fold, read_fold(in, cache, i == 0 ? -1 : stored.folds.back()->end, map));
        stored.folds.push_back(std::make_shared<const ReplacedCells>(std::move(fold)));
    }
    if (!in.is_at_end())
        return in.failure(ErrorCode::corrupt, "expected the fingerprint, more bytes are left");
    return stored;
}

} // namespace

bool parts_cells(uint32_t heads, const CacheTensor& tensor) {
    const auto block = static_cast<uint32_t>(ggml_blck_size(tensor.type));
    return heads > 0 && tensor.width % heads == 0 && (tensor.width / heads) % block == 0;
}

void encode_archive(const StoredFolds& stored, const WritePiece& write) {
    const KvSection& cache = stored.folds.front()->originals;
    std::vector<LayerHeader> layers;
    for (size_t i = 0; i < cache.keys.size(); ++i) {
        const CacheTensor &keys = cache.keys[i], &values = cache.values[i];
        layers.push_back(
            {keys.type, keys.width, values.type, values.width, values.transposed ? 1u : 0u, stored.heads[i]});
    }
    Output out(write);
    out.put(Header{.mark = stored.mark,
                   .layers = static_cast<uint32_t>(layers.size()),
                   .folds = static_cast<uint32_t>(stored.folds.size()),
                   .has_extra = cache.has_extra ? 1u : 0u,
                   .rotation = cache.rotation});
    out.end_part();
    for (const LayerHeader& layer : layers)
        out.put(layer);
    out.end_part();
    for (const auto& fold : stored.folds)
        put_fold(out, *fold, layers);
    out.end_file();
}

Result<StoredFolds> decode_archive(std::span<const uint8_t> bytes, const AttentionMap* map) {
    Input in(bytes);
    const Input start = in;
    KVFOLD_TRY(const Header header, in.read<Header>("a header"));
    if (header.magic != kMagic)
        return start.failure(ErrorCode::corrupt, "expected the magic \"kvfa\": no archive");
    if (header.version != kVersion)
        return start.failure(ErrorCode::unsupported, "expected version {}, got {}", kVersion, header.version);
    const auto body = bytes.first(bytes.size() - sizeof(uint64_t));
    uint64_t hash = 0;
    std::memcpy(&hash, bytes.data() + body.size(), sizeof hash);
    if (fingerprint(body) != hash)
        return fail(
            ErrorCode::corrupt,
            "archive, offset {}: expected the fingerprint of what stands before: it is damaged or cut off",
            body.size());
    return decode_body(body, header, map);
}

std::optional<uint64_t> mark_of_archive(std::span<const uint8_t> bytes) {
    const auto header = Input(bytes).read<Header>("a header");
    return header && header->magic == kMagic ? std::optional(header->mark) : std::nullopt;
}

} // namespace kvfold
