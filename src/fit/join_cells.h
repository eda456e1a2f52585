// Swap, prepared: the compact sequence out of the snapshot and what was solved.
#pragma once

#include "fit/fit.h"

namespace kvfold {

// The snapshot with other cells in the section that sees the whole context; other sections as they are.
SequenceState with_first_section(const SequenceState& snapshot, KvSection section);

// Verbatim head and pinned cells, folded region, verbatim tail; other sections as they are. Keys hold their
// own rotation, so attention does not mind where a cell stands as long as it is not behind what asks. All
// cells before the end of the region share the position of its last one: the smallest position of the
// sequence then says truly how far back it can be cut, and a program that asks for it before it cuts, as
// llama-server does, starts over where it must. solution: of `regions`; without slots the region is dropped.
SequenceState join_cells(const SequenceState& snapshot, const Regions& regions, const Solution& solution);

} // namespace kvfold
