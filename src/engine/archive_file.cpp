#include "engine/archive_file.h"

#include "base/mapped_file.h"
#include "state/folded_region.h"

#include <algorithm>

namespace kvfold {

namespace {

bool are_of_one_cache(const KvSection& a, const KvSection& b) {
    const auto is_alike = [](const CacheTensor& x, const CacheTensor& y) {
        return x.type == y.type && x.width == y.width && x.transposed == y.transposed;
    };
    return std::ranges::equal(a.keys, b.keys, is_alike) && std::ranges::equal(a.values, b.values, is_alike) &&
           a.has_extra == b.has_extra && a.rotation.keys == b.rotation.keys &&
           a.rotation.values == b.rotation.values;
}

} // namespace

std::optional<StoredFolds> stored_folds(const KvSection& section, const FoldHistory& history,
                                        std::vector<uint32_t> heads) {
    const int32_t end = folded_region(section).end;
    heads.resize(section.keys.size(), 1);
    for (size_t i = 0; i < heads.size(); ++i)
        if (!parts_cells(heads[i], section.keys[i]) || !parts_cells(heads[i], section.values[i]))
            heads[i] = 1;
    StoredFolds stored{0, std::move(heads), {}};
    for (const auto& fold : history.each(end))
        if (!fold->originals.cells.empty()) stored.folds.push_back(fold);
    if (stored.folds.empty()) return std::nullopt;
    const bool made_cells = stored.folds.back()->made_cells;
    if (!made_cells && end_position(section) == end) return std::nullopt; // nothing tells whose it is
    stored.mark = fold_mark(section, end, made_cells);
    return stored;
}

Status write_archive_file(const std::filesystem::path& path, const StoredFolds& stored) {
    return write_file(path, [&](const WritePiece& write) { encode_archive(stored, write); });
}

Result<StoredFolds> read_archive_file(const std::filesystem::path& path, const KvSection& section,
                                      const AttentionMap* map) {
    KVFOLD_TRY(const MappedFile file, MappedFile::open(path));
    Result<StoredFolds> stored = decode_archive(file.bytes(), map);
    if (!stored) return fail(stored.error().code, "{}: {}", path.string(), stored.error().message);
    const int32_t end = folded_region(section).end;
    const bool belongs = are_of_one_cache(stored->folds.front()->originals, section) &&
                         stored->folds.back()->end == end && fold_marks(section, end).has(stored->mark);
    if (belongs) return stored;
    return fail(ErrorCode::invalid_argument,
                "{}: archive of another slot file; give the one that was written with this one",
                path.string());
}

bool is_archive_of_another(const std::filesystem::path& path, const KvSection& section) {
    const auto file = MappedFile::open(path);
    if (!file) return false;
    const auto mark = mark_of_archive(file->bytes());
    return mark && !fold_marks(section, folded_region(section).end).has(*mark);
}

std::vector<uint32_t> heads_by_cache(const AttentionMap& map) {
    std::vector<uint32_t> heads;
    for (const AttentionLayer& layer : map.layers) {
        heads.resize(std::max(heads.size(), layer.cache + 1), 1);
        heads[layer.cache] = static_cast<uint32_t>(layer.kv_heads);
    }
    return heads;
}

Result<std::vector<std::shared_ptr<ArchivedFold>>> as_archived(const StoredFolds& stored, size_t budget) {
    std::vector<std::shared_ptr<ArchivedFold>> folds;
    size_t bytes = 0;
    for (const auto& cells : stored.folds)
        bytes += folds.emplace_back(std::make_shared<ArchivedFold>(cells))->bytes();
    if (bytes <= budget) return folds;
    return fail(ErrorCode::invalid_argument, "an archive of {} MiB has no room in {} MiB; give more room",
                (bytes + (1 << 20) - 1) >> 20, budget >> 20);
}

Status add(KeptFolds& kept, const StoredFolds& stored) {
    KVFOLD_TRY(const auto folds, as_archived(stored, kept.budget()));
    for (size_t i = 0; i < folds.size(); ++i) {
        const ReplacedCells* const next = i + 1 < folds.size() ? stored.folds[i + 1].get() : nullptr;
        kept.add(next ? marks_before(*next).of(stored.folds[i]->made_cells) : stored.mark, folds[i]);
    }
    return {};
}

} // namespace kvfold
