// The straight line: snapshot -> study -> solve -> swap.
#pragma once

#include "engine/request.h"

namespace kvfold {

// Study and solve on a snapshot, chunk by chunk where the method or request.most_cells says so: touches no
// context but its own, so it can run in any thread while the model's other contexts go on. Never throws.
// Fails with invalid_argument, unsupported, cancelled, numeric, memory or llama.
Result<CompactState> compact_state(llama_model* model, const SequenceState& snapshot,
                                   const CompactRequest& request);

// The same of the cells that earlier folds replaced, as far as the history has them (engine/from_originals.h)
// and there is memory for so many.
Result<CompactState> compact_state(llama_model* model, const SequenceState& snapshot,
                                   const CompactRequest& request, const FoldHistory& history);

// The whole line on a sequence of the user's context. Never throws. On failure, cancelling included, the
// sequence is what it was, but for `lost`; the context's logits are not touched.
Result<CompactReport> compact_sequence(llama_context* ctx, llama_seq_id seq_id,
                                       const CompactRequest& request);

} // namespace kvfold
