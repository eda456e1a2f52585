// Two folds of a small synthetic cache, as an archive file has them.
#pragma once

#include "base/fingerprint.h"
#include "engine/archive_file.h"

#include <random>

namespace kvfold::testing {

using Bytes = std::vector<uint8_t>;

struct ArchivedCache {
    ggml_type key_type = GGML_TYPE_F16, value_type = GGML_TYPE_F16;
    uint32_t width = 32; // of every layer, all heads
    uint32_t heads = 2, layers = 2;
    bool transposed = false, extra = false;
    int folds = 2;
};

// Cells of bytes that nobody else has, each at one of the positions.
inline KvSection synthetic_section(const ArchivedCache& cache, const std::vector<int32_t>& positions,
                                   uint32_t seed) {
    std::mt19937 random(seed);
    KvSection section;
    section.has_extra = cache.extra;
    section.values_transposed = cache.transposed;
    for (const int32_t pos : positions) {
        section.cells.push_back({.pos = pos});
        if (cache.extra)
            for (uint8_t& byte : section.cells.back().extra)
                byte = static_cast<uint8_t>(random());
    }
    const auto tensor = [&](ggml_type type, bool transposed) {
        CacheTensor made{type, cache.width, transposed, {}};
        made.bytes.resize(made.row_bytes() * positions.size());
        for (uint8_t& byte : made.bytes)
            byte = static_cast<uint8_t>(random());
        return made;
    };
    for (uint32_t layer = 0; layer < cache.layers; ++layer) {
        section.keys.push_back(tensor(cache.key_type, false));
        section.values.push_back(tensor(cache.value_type, cache.transposed));
    }
    return section;
}

// Behind both folds.
inline KvSection tail_section(const ArchivedCache& cache) { return synthetic_section(cache, {7, 8}, 4); }

// What holds both folds: of positions 0 to 3, and 4 to 6.
inline KvSection made_section(const ArchivedCache& cache) {
    KvSection section = synthetic_section(cache, cache.folds == 2 ? std::vector{6, 6} : std::vector{3, 3}, 5);
    append_cells(section, tail_section(cache));
    return section;
}

inline StoredFolds stored_folds_of(const ArchivedCache& cache) {
    const int32_t end = cache.folds == 2 ? 7 : 4;
    StoredFolds stored{
        fold_fingerprint(made_section(cache), end), std::vector(cache.layers, cache.heads), {}};
    const auto add = [&](ReplacedCells fold) {
        stored.folds.push_back(std::make_shared<const ReplacedCells>(std::move(fold)));
    };
    add({0, 4, synthetic_section(cache, {}, 0), synthetic_section(cache, {0, 1, 2, 3}, 1), {0, 2}});
    if (cache.folds == 2)
        add({4,
             7,
             synthetic_section(cache, {3, 3}, 2),
             synthetic_section(cache, {4, 5, 6}, 3),
             {},
             {},
             {{0, 5}, {}}});
    return stored;
}

inline Bytes archive_bytes(const StoredFolds& stored) {
    Bytes bytes;
    encode_archive(stored, [&](std::span<const uint8_t> piece) {
        bytes.insert(bytes.end(), piece.begin(), piece.end());
        return true;
    });
    return bytes;
}

// The last 8 bytes become the fingerprint of the others. REQUIRES: so many.
inline Bytes with_fingerprint(Bytes bytes) {
    const std::span<const uint8_t> body = std::span(bytes).first(bytes.size() - sizeof(uint64_t));
    const uint64_t hash = fingerprint(body);
    std::memcpy(bytes.data() + body.size(), &hash, sizeof hash);
    return bytes;
}

} // namespace kvfold::testing
