// Swap, prepared: the compact sequence out of the snapshot and what was solved.
#pragma once

#include "fit/fit.h"

namespace kvfold {

// The snapshot with other cells in the section that sees the whole context; other sections as they are.
SequenceState with_first_section(const SequenceState& snapshot, KvSection section);

// Verbatim head and pinned cells, folded region, verbatim tail; other sections as they are.
// solution: of `regions`; without slots the region is dropped.
SequenceState join_cells(const SequenceState& snapshot, const Regions& regions, const Solution& solution);

} // namespace kvfold
