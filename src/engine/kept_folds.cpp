#include "engine/kept_folds.h"

#include "base/fingerprint.h"
#include "state/folded_region.h"

#include <algorithm>
#include <array>
#include <ranges>

namespace kvfold {

namespace {

uint64_t fingerprint_of(const KvSection& section, uint32_t cell) {
    const auto pos = static_cast<uint64_t>(section.cells[cell].pos);
    uint64_t hash = fingerprint({reinterpret_cast<const uint8_t*>(&pos), sizeof pos});
    for (const auto* tensors : {&section.keys, &section.values})
        for (const CacheTensor& tensor : *tensors)
            hash = fingerprint(take_cells(tensor, {&cell, 1}).bytes, hash);
    return hash;
}

} // namespace

// A sum over the cells: llama.cpp may put them into another order.
uint64_t fold_fingerprint(const KvSection& section, int32_t end) {
    uint64_t sum = 0;
    for (uint32_t cell = 0; cell < section.cells.size(); ++cell)
        if (section.cells[cell].pos < end) sum += fingerprint_of(section, cell);
    return sum;
}

FoldMarks fold_marks(const KvSection& section, int32_t end) {
    const uint64_t made = fold_fingerprint(section, end);
    const std::vector<uint32_t> cells = cells_by_position(section);
    const auto next =
        std::ranges::find_if(cells, [&](uint32_t cell) { return section.cells[cell].pos >= end; });
    return {made, next == cells.end() ? made : made + fingerprint_of(section, *next)};
}

FoldMarks marks_before(const ReplacedCells& cells) {
    KvSection section = cells.folded;
    if (!cells.originals.cells.empty())
        append_cells(section, take_cells(cells.originals, std::array<uint32_t, 1>{0}));
    return fold_marks(section, cells.begin);
}

std::shared_ptr<ArchivedFold> replaced_between(const KvSection& before, const KvSection& after,
                                               const AttentionMap* map, KeptKeys kept) {
    const int32_t begin = folded_region(before).end, end = folded_region(after).end;
    if (end == 0 || after.cells.size() >= before.cells.size()) return nullptr;
    ReplacedCells cells = replaced_cells(before, begin, end - 1);
    cells.kept_keys = std::move(kept);
    return archived(std::move(cells), after, map);
}

void KeptFolds::add(uint64_t mark, std::shared_ptr<ArchivedFold> fold) {
    archive_.admit(fold);
    folds_[mark] = std::move(fold);
    std::erase_if(folds_, [](const auto& each) { return !each.second->cells(); });
}

FoldHistory KeptFolds::history(const KvSection& section) const {
    std::vector<std::shared_ptr<const ArchivedFold>> newest_first;
    const auto fold_to = [&](int32_t end, const FoldMarks& marks) {
        for (const bool made_cells : {true, false}) {
            const auto found = folds_.find(marks.of(made_cells));
            if (found != folds_.end() && found->second->end() == end &&
                found->second->cells()->made_cells == made_cells)
                return found->second;
        }
        return std::shared_ptr<ArchivedFold>();
    };
    const int32_t end = folded_region(section).end;
    auto fold = fold_to(end, fold_marks(section, end));
    while (fold) {
        newest_first.push_back(fold);
        const ReplacedCells& cells = *fold->cells();
        if (cells.begin == 0) break;
        fold = fold_to(cells.begin, marks_before(cells));
    }
    FoldHistory history;
    for (const auto& each : newest_first | std::views::reverse)
        history.add(each);
    return history;
}

Result<SequenceState> unfolded(const SequenceState& now, const KeptFolds& kept, size_t cells) {
    const KvSection& section = now.sections.front();
    const FoldedRegion folded = folded_region(section);
    if (folded.empty()) return fail(ErrorCode::invalid_argument, "nothing is folded");
    const auto folds = kept.history(section).each(folded.end);
    if (folds.empty())
        return fail(
            ErrorCode::not_found,
            "the archive does not hold what was folded; give the one of this slot file, or more room before folding");
    const size_t behind = section.cells.size() - folded.cells;
    const auto newest = newest_that_fit(folds, behind, cells);
    if (newest.empty())
        return fail(ErrorCode::invalid_argument,
                    "without its newest fold the sequence takes {} cells, and has room "
                    "for {}; give the context more cells",
                    behind + folds.back()->originals.cells.size() + folds.back()->folded.cells.size(), cells);
    return unfolded(now, as_one(newest));
}

} // namespace kvfold
