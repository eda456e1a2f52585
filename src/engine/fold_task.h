// One fold of a sequence that may go on meanwhile: what it works on, and how its result comes back into a
// sequence that went on.
#pragma once

#include "engine/request.h"
#include "engine/sequence_log.h"

namespace kvfold {

struct FoldTask {
    llama_seq_id seq_id = 0;
    SequenceState snapshot;
    std::vector<llama_token>
        tokens; // of all positions, none when some are unknown; request.tokens looks at them
    CompactRequest request;
    SequenceLog::Fold fold; // as it will be; cells counted from the region's first position
    size_t region_size = 0; // cells
    llama_pos last() const { return fold.end - 1; } // newest position that changes; cells behind it may go on
};

// Reads the sequence and plans. An older fold that the budget's head keeps joins the new one in the books.
// Fails as read_sequence and plan_regions do.
Result<std::unique_ptr<FoldTask>> prepare_fold(llama_context* ctx, llama_seq_id seq_id,
                                               CompactRequest request, const SequenceLog& log);

// Puts the folded cells into the sequence as it is now, with all its cells behind the region.
// REQUIRES: cells up to task.last() as they were in the snapshot. On failure the sequence is what it was.
Status put_in_place(llama_context* ctx, const FoldTask& task, const SequenceState& compact);

} // namespace kvfold
