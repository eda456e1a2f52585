// A text that is folded while it is read: the context, the scratch context and the memory that study and
// solve take stay bounded by a chunk and what the sequence becomes, however long the text is.
#pragma once

#include "engine/request.h"

#include <functional>

namespace kvfold {

// Cells that a sliding window of the model takes while a batch is decoded; 0 without one. llama.cpp gives a
// window no more cells than the context has, so a text longer than the context needs a context of at least so
// many.
size_t window_cells(const llama_model* model, uint32_t n_ubatch);

// Decodes tokens behind the sequence. When it fails, it may leave some of them there.
using AppendFn = std::function<Status(TokenSpan tokens)>;

// Reads request.tokens into a sequence and folds it on the way: the context needs cells for what the text
// becomes and for a chunk (plan_reading). Later chunks are computed against what the earlier ones became.
// REQUIRES: a context that keeps a cache. Never throws. Fails with invalid_argument when the sequence is not
// empty or the method not one of chunks or the context too small for the model's window, and as plan_reading,
// append and compact_sequence do. On failure, cancelling included, the sequence is what the last finished
// chunk left: empty before the first.
Result<CompactReport> read_in_chunks(llama_context* ctx, llama_seq_id seq_id, const CompactRequest& request,
                                     const AppendFn& append);

} // namespace kvfold
