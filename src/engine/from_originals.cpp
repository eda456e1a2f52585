#include "engine/from_originals.h"

#include "engine/chunks.h"

namespace kvfold {

std::optional<FoldedState> from_originals(const FoldedState& live, const CompactRequest& request,
                                          int32_t folded_end, const FoldHistory& history) {
    const std::vector<CellMeta>& cells = live.state.sections.front().cells;
    if (live.regions.region.empty() || request.method->keep != Keep::fit) return std::nullopt;
    const bool is_refold = cells[live.regions.region.front()].pos < folded_end;
    if (!is_refold || live.regions.untouched > 0) return std::nullopt;
    const auto originals = history.all(folded_end);
    if (!originals) return std::nullopt;
    FoldedState fold{unfolded(live.state, *originals), {}, {}};
    const KvSection& section = fold.state.sections.front();
    fold.budget = exact_budget(section.cells.size(), live.regions.cells_after(),
                               static_cast<size_t>(request.budget.keep_first), live.regions.tail.size());
    auto regions = plan_regions(section, fold.budget, request.method->keep, request.seed);
    const int32_t last = cells[*live.regions.last_cell()].pos;
    if (!regions || !regions->last_cell() || section.cells[*regions->last_cell()].pos != last)
        return std::nullopt;
    const auto chunks = plan_chunks(section, *regions, most_at_once(request));
    if (!chunks || (chunks->size() > 1 && regions->tail.empty())) return std::nullopt;
    fold.regions = *std::move(regions);
    return fold;
}

} // namespace kvfold
