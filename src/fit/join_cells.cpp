#include "fit/join_cells.h"

#include <algorithm>

namespace kvfold {

namespace {

KvSection folded_cells(const KvSection& full, const Regions& regions, const Solution& solution) {
    KvSection folded = take_cells(full, {});
    folded.cells.assign(solution.slots, full.cells[regions.region.back()]);
    folded.keys = solution.keys;
    folded.values = solution.values;
    return folded;
}

// All that stands before the end of the region now stands there.
void stand_together(KvSection& compact, size_t untouched, int32_t end) {
    for (size_t i = untouched; i < compact.cells.size(); ++i)
        compact.cells[i].pos = std::max(compact.cells[i].pos, end);
}

} // namespace

SequenceState with_first_section(const SequenceState& snapshot, KvSection section) {
    SequenceState state{{std::move(section)}, snapshot.recurrent, snapshot.version};
    state.sections.insert(state.sections.end(), snapshot.sections.begin() + 1, snapshot.sections.end());
    return state;
}

SequenceState join_cells(const SequenceState& snapshot, const Regions& regions, const Solution& solution) {
    const KvSection& full = snapshot.sections.front();
    KvSection compact = take_cells(full, regions.head);
    append_cells(compact, take_cells(full, regions.pinned));
    if (solution.slots > 0) append_cells(compact, folded_cells(full, regions, solution));
    append_cells(compact, take_cells(full, regions.tail));
    if (const auto last = regions.last_cell())
        stand_together(compact, regions.untouched, full.cells[*last].pos);
    return with_first_section(snapshot, std::move(compact));
}

} // namespace kvfold
