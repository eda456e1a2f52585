// Snapshot and swap: one sequence of a running llama_context, read and replaced through the public C API.
#pragma once

#include "state/sequence_state.h"

#include <llama.h>

namespace kvfold {

// Snapshot. Fails with invalid_argument when the sequence has no cells, else as decode_sequence.
// Only reads: the context's next logits are the same as without the call.
Result<SequenceState> read_sequence(llama_context* ctx, llama_seq_id seq_id);

// The same of a state in memory, as llama_state_seq_get_data gives it. Fails as decode_sequence.
Result<SequenceState> decode_blob(std::span<const uint8_t> blob);

// Swap: afterwards the sequence holds `state` and nothing else, whatever streams the cache had that it comes
// from. On failure the sequence holds what it held before (its old state is put back) and the error says why;
// the code is `lost` when that failed too.
Status write_sequence(llama_context* ctx, llama_seq_id seq_id, const SequenceState& state);

// More cells for a sequence, whose other cells are neither read nor written. They go through the state of the
// last sequence that llama.cpp can have, which holds nothing before and afterwards. Fails with `busy` when it
// does hold something, and with `llama` when there is no room; nothing has changed then. version: of the
// states that this llama.cpp writes; that of an empty sequence does not show it. REQUIRES: a unified cache,
// or a context with one sequence; no recurrent layers, whose state would be copied along.
Status add_cells(llama_context* ctx, llama_seq_id seq_id, const KvSection& cells, uint32_t version);

} // namespace kvfold
