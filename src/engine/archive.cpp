#include "engine/archive.h"

#include "fit/join_cells.h"

#include <algorithm>
#include <numeric>

namespace kvfold {

namespace {

size_t bytes_of(const KvSection& section) {
    size_t bytes = section.cells.size() * sizeof(CellMeta);
    for (const auto& tensors : {&section.keys, &section.values})
        for (const CacheTensor& tensor : *tensors)
            bytes += tensor.bytes.size();
    return bytes;
}

template <class Wanted> KvSection cells_where(const KvSection& section, Wanted wanted) {
    std::vector<uint32_t> cells;
    for (uint32_t i = 0; i < section.cells.size(); ++i)
        if (wanted(section.cells[i].pos)) cells.push_back(i);
    return take_cells(section, cells);
}

} // namespace

ReplacedCells replaced_cells(const KvSection& section, size_t untouched, int32_t begin, int32_t last) {
    std::vector<uint32_t> order(section.cells.size());
    std::iota(order.begin(), order.end(), 0u);
    const auto pos = [&](uint32_t cell) { return section.cells[cell].pos; };
    std::ranges::stable_sort(order, {}, pos);
    const auto replaced = order.begin() + static_cast<std::ptrdiff_t>(untouched);
    const auto originals = std::ranges::lower_bound(replaced, order.end(), begin, {}, pos);
    const auto rest = std::ranges::upper_bound(originals, order.end(), last, {}, pos);
    const int32_t untouched_end = untouched > 0 ? pos(order[untouched - 1]) + 1 : 0;
    return {std::max(begin, untouched_end), last + 1, untouched_end,
            take_cells(section, std::vector(replaced, originals)),
            take_cells(section, std::vector(originals, rest))};
}

SequenceState taken_back(const SequenceState& now, const ReplacedCells& cells, int32_t end) {
    const KvSection& live = now.sections.front();
    KvSection section = cells_where(live, [&](int32_t pos) { return pos < cells.untouched_end; });
    append_cells(section, cells.folded);
    append_cells(section, cells_where(cells.originals, [&](int32_t pos) { return pos < end; }));
    if (end == cells.end) append_cells(section, cells_where(live, [&](int32_t pos) { return pos >= end; }));
    return with_first_section(now, std::move(section));
}

ArchivedFold::ArchivedFold(ReplacedCells cells)
    : cells_(std::move(cells)), begin_(cells_->begin), end_(cells_->end),
      bytes_(bytes_of(cells_->folded) + bytes_of(cells_->originals)) {}

const ReplacedCells* fold_at(const FoldHistory& history, int32_t end) {
    for (const auto& fold : history)
        if (fold->begin() <= end && end < fold->end()) return fold->cells();
    return nullptr;
}

int32_t first_cut(const FoldHistory& history, int32_t fold_end) {
    for (auto fold = history.rbegin(); fold != history.rend(); ++fold) {
        if ((*fold)->end() != fold_end || !(*fold)->cells()) break;
        fold_end = (*fold)->begin();
    }
    return fold_end;
}

std::optional<ReplacedCells> all_replaced(const FoldHistory& history, int32_t fold_end) {
    const int32_t first = first_cut(history, fold_end);
    std::optional<ReplacedCells> all;
    for (const auto& fold : history) {
        if (fold->begin() < first) continue;
        if (!all) {
            all = *fold->cells();
            continue;
        }
        append_cells(all->originals, fold->cells()->originals);
        all->end = fold->end();
    }
    return all;
}

size_t Archive::bytes() const {
    size_t bytes = 0;
    for (const auto& fold : folds_)
        if (const auto held = fold.lock()) bytes += held->bytes();
    return bytes;
}

void Archive::make_room(size_t bytes) {
    std::erase_if(folds_, [](const auto& fold) { return fold.expired(); });
    for (size_t held = this->bytes(); held + bytes > budget_; folds_.pop_front()) {
        const auto oldest = folds_.front().lock();
        held -= oldest->bytes();
        oldest->cells_.reset();
    }
}

std::shared_ptr<const ArchivedFold> Archive::keep(ReplacedCells cells) {
    auto fold = std::make_shared<ArchivedFold>(std::move(cells));
    if (fold->begin() == fold->end() || fold->bytes() > budget_) return nullptr;
    make_room(fold->bytes());
    folds_.push_back(fold);
    return fold;
}

} // namespace kvfold
