#include "engine/archive.h"

#include "base/fingerprint.h"
#include "fit/join_cells.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

namespace kvfold {

namespace {

size_t bytes_of(const KvSection& section) {
    size_t bytes = section.cells.size() * sizeof(CellMeta);
    for (const auto& tensors : {&section.keys, &section.values})
        for (const CacheTensor& tensor : *tensors)
            bytes += tensor.bytes.size();
    return bytes;
}

size_t bytes_of(const KeptKeys& kept) {
    size_t positions = 0;
    for (const std::vector<int32_t>& of_head : kept)
        positions += of_head.size();
    return positions * sizeof(int32_t);
}

// Those whose positions lie in [begin, end), by rising position.
KvSection cells_between(const KvSection& section, int32_t begin, int32_t end) {
    std::vector<uint32_t> cells = cells_by_position(section);
    std::erase_if(cells, [&](uint32_t cell) {
        return section.cells[cell].pos < begin || section.cells[cell].pos >= end;
    });
    return take_cells(section, cells);
}

bool has_same_bytes(const CacheTensor& a, uint32_t in_a, const CacheTensor& b, uint32_t in_b) {
    return take_cells(a, {&in_a, 1}).bytes == take_cells(b, {&in_b, 1}).bytes;
}

bool is_same_cell(const KvSection& a, uint32_t in_a, const KvSection& b, uint32_t in_b) {
    for (size_t layer = 0; layer < a.keys.size(); ++layer) {
        if (!has_same_bytes(a.keys[layer], in_a, b.keys[layer], in_b) ||
            !has_same_bytes(a.values[layer], in_a, b.values[layer], in_b))
            return false;
    }
    return true;
}

// Of the originals, those that stand in what was made byte for byte.
std::vector<uint32_t> kept_in(const KvSection& made, const KvSection& originals) {
    const auto key_of = [](const KvSection& section, uint32_t cell) {
        return fingerprint(take_cells(section.keys.front(), {&cell, 1}).bytes);
    };
    std::unordered_multimap<uint64_t, uint32_t> by_key;
    for (uint32_t cell = 0; cell < made.cells.size(); ++cell)
        by_key.emplace(key_of(made, cell), cell);
    std::vector<uint32_t> kept;
    for (uint32_t cell = 0; cell < originals.cells.size(); ++cell) {
        const auto [first, last] = by_key.equal_range(key_of(originals, cell));
        const auto is_it = [&](const auto& each) { return is_same_cell(originals, cell, made, each.second); };
        if (std::any_of(first, last, is_it)) kept.push_back(cell);
    }
    return kept;
}

} // namespace

ReplacedCells replaced_cells(const KvSection& section, int32_t begin, int32_t last) {
    return {begin, last + 1, cells_between(section, 0, begin), cells_between(section, begin, last + 1)};
}

std::vector<uint32_t> replaced_originals(const ReplacedCells& cells) {
    std::vector<uint32_t> replaced;
    for (uint32_t cell = 0; cell < cells.originals.cells.size(); ++cell)
        if (!std::ranges::binary_search(cells.kept, cell)) replaced.push_back(cell);
    return replaced;
}

SequenceState cut_back(const SequenceState& now, const ReplacedCells& cells, int32_t end) {
    KvSection section = cells.folded;
    append_cells(section, end == cells.end ? cells.originals : cells_between(cells.originals, 0, end));
    return with_first_section(now, std::move(section));
}

SequenceState unfolded(const SequenceState& now, const ReplacedCells& cells) {
    SequenceState state = cut_back(now, cells, cells.end);
    constexpr int32_t kOpen = std::numeric_limits<int32_t>::max();
    append_cells(state.sections.front(), cells_between(now.sections.front(), cells.end, kOpen));
    return state;
}

ReplacedCells as_one(std::span<const std::shared_ptr<const ReplacedCells>> folds) {
    ReplacedCells all = *folds.front();
    all.blocks.reset();
    for (const auto& fold : folds.subspan(1)) {
        for (const uint32_t cell : fold->kept)
            all.kept.push_back(static_cast<uint32_t>(all.originals.cells.size()) + cell);
        append_cells(all.originals, fold->originals);
        all.end = fold->end;
        all.kept_keys = fold->kept_keys;
    }
    return all;
}

std::span<const std::shared_ptr<const ReplacedCells>>
newest_that_fit(std::span<const std::shared_ptr<const ReplacedCells>> folds, size_t behind, size_t cells) {
    size_t originals = 0, first = folds.size();
    while (first > 0) {
        const ReplacedCells& fold = *folds[first - 1];
        originals += fold.originals.cells.size();
        if (behind + originals + fold.folded.cells.size() > cells) break;
        --first;
    }
    return folds.subspan(first);
}

ArchivedFold::ArchivedFold(std::shared_ptr<const ReplacedCells> cells)
    : cells_(std::move(cells)), begin_(cells_->begin), end_(cells_->end),
      bytes_(bytes_of(cells_->folded) + bytes_of(cells_->originals) +
             (cells_->blocks ? cells_->blocks->bytes() : 0) + bytes_of(cells_->kept_keys)) {}

std::shared_ptr<ArchivedFold> archived(ReplacedCells cells, const KvSection& made, const AttentionMap* map) {
    cells.kept = kept_in(made, cells.originals);
    const KvSection now = cells_between(made, 0, cells.end);
    cells.made_cells = kept_in(now, cells.folded).size() + cells.kept.size() < now.cells.size();
    if (map) cells.blocks = block_keys(*map, cells.originals, replaced_originals(cells));
    return std::make_shared<ArchivedFold>(std::move(cells));
}

void FoldHistory::add(std::shared_ptr<const ArchivedFold> fold) {
    if (!fold) return;
    cut(fold->begin());
    folds_.push_back(std::move(fold));
}

void FoldHistory::cut(int32_t end) {
    const auto goes = [&](const auto& fold) { return fold->end() > end; };
    std::erase_if(folds_, goes);
}

std::shared_ptr<const ReplacedCells> FoldHistory::at(int32_t end) const {
    for (const auto& fold : folds_)
        if (fold->begin() <= end && end < fold->end()) return fold->cells();
    return nullptr;
}

int32_t FoldHistory::first_cut(int32_t fold_end) const {
    for (auto fold = folds_.rbegin(); fold != folds_.rend(); ++fold) {
        if ((*fold)->end() != fold_end || !(*fold)->cells()) break;
        fold_end = (*fold)->begin();
    }
    return fold_end;
}

std::vector<std::shared_ptr<const ReplacedCells>> FoldHistory::each(int32_t fold_end) const {
    const int32_t first = first_cut(fold_end);
    std::vector<std::shared_ptr<const ReplacedCells>> each;
    for (const auto& fold : folds_)
        if (first <= fold->begin() && fold->begin() < fold_end) each.push_back(fold->cells());
    return each;
}

std::optional<ReplacedCells> FoldHistory::all(int32_t fold_end) const {
    const auto folds = each(fold_end);
    return folds.empty() ? std::nullopt : std::optional(as_one(folds));
}

size_t Archive::bytes() const {
    size_t bytes = 0;
    for (const auto& fold : folds_)
        if (const auto held = fold.lock()) bytes += held->bytes();
    return bytes;
}

void Archive::admit(const std::shared_ptr<ArchivedFold>& fold) {
    if (!fold) return;
    if (fold->bytes() > budget_) {
        fold->cells_.reset();
        return;
    }
    std::erase_if(folds_, [](const auto& each) { return each.expired(); });
    folds_.push_back(fold);
    for (size_t held = bytes(); held > budget_; folds_.pop_front()) {
        const auto oldest = folds_.front().lock();
        held -= oldest->bytes();
        oldest->cells_.reset();
    }
}

} // namespace kvfold
