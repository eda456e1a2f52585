#include "fit/join_cells.h"

namespace kvfold {

namespace {

// The folded cells alone. Their slots hold different tokens in different heads, so each stands where the
// mean does.
KvSection folded_cells(const KvSection& full, const Regions& regions, const Solution& solution) {
    std::vector<double> mean_kept(solution.slots, 0.0);
    for (const HeadReport& head : solution.heads) {
        for (size_t i = 0; i < head.kept.size(); ++i)
            mean_kept[i] += head.kept[i] / static_cast<double>(solution.heads.size());
    }
    KvSection folded = take_cells(full, {});
    for (const uint32_t place : spread_slots(mean_kept, regions.region.size()))
        folded.cells.push_back(full.cells[regions.region[place]]);
    folded.keys = solution.keys;
    folded.values = solution.values;
    return folded;
}

} // namespace

SequenceState with_first_section(const SequenceState& snapshot, KvSection section) {
    SequenceState state{{std::move(section)}, snapshot.recurrent};
    state.sections.insert(state.sections.end(), snapshot.sections.begin() + 1, snapshot.sections.end());
    return state;
}

SequenceState join_cells(const SequenceState& snapshot, const Regions& regions, const Solution& solution) {
    const KvSection& full = snapshot.sections.front();
    KvSection compact = take_cells(full, regions.head);
    append_cells(compact, take_cells(full, regions.pinned));
    if (solution.slots > 0) append_cells(compact, folded_cells(full, regions, solution));
    append_cells(compact, take_cells(full, regions.tail));
    return with_first_section(snapshot, std::move(compact));
}

} // namespace kvfold
