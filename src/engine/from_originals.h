// A fold of what was folded before is made of the cells that earlier folds replaced, so that no cell is
// folded twice.
#pragma once

#include "engine/archive.h"
#include "engine/request.h"

namespace kvfold {

// What is folded, and how.
struct FoldedState {
    SequenceState state;
    Budget budget;
    Regions regions; // of the state, by the budget
};

// The same fold of the cells that earlier folds replaced instead of those that they made, as far as the
// history has them: to as many cells, and up to the same position. Nothing where no cell of earlier folds is
// in the region; for baselines, which wear no cell; and where the originals cannot be folded so. folded_end:
// position behind what of `live` is folded.
std::optional<FoldedState> from_originals(const FoldedState& live, const CompactRequest& request,
                                          int32_t folded_end, const FoldHistory& history);

} // namespace kvfold
