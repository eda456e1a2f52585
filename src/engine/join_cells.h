// Swap, prepared: the compact sequence out of the snapshot and what was solved.
#pragma once

#include "engine/regions.h"
#include "engine/solve_layers.h"
#include "state/sequence_state.h"

namespace kvfold {

// The snapshot with other cells in the section that sees the whole context; other sections as they are.
SequenceState with_first_section(const SequenceState& snapshot, KvSection section);

// Verbatim head and pinned cells, folded region, verbatim tail; other sections as they are.
// solution: of `regions`; may be empty when regions.folded is 0.
SequenceState join_cells(const SequenceState& snapshot, const Regions& regions, const Solution& solution);

} // namespace kvfold
