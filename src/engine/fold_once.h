// One fold: a region of a snapshot goes through study, solve and join.
#pragma once

#include "engine/request.h"

#include <functional>

namespace kvfold {

// What a fit strategy is given of a request and of the plans chosen for it. All that it refers to must
// outlive it.
RegionProblem problem_of(llama_model* model, const AttentionMap& map, const SequenceState& snapshot,
                         const Regions& regions, const Plans& plans, const CompactRequest& request,
                         const Kernels& kernels);

// regions: of the snapshot's first section. Fails as the method's fit strategy does, and with
// invalid_argument when request.tokens are not those of the snapshot.
Result<CompactState> fold_once(llama_model* model, const SequenceState& snapshot, const Regions& regions,
                               const CompactRequest& request);

// Reads a sequence, folds the snapshot by `fold`, and puts the result in its place; what it replaces is kept
// where the request says so. On failure the sequence is what it was, but for `lost`.
Result<CompactReport> fold_in_place(llama_context* ctx, llama_seq_id seq_id, const CompactRequest& request,
                                    const std::function<Result<CompactState>(const SequenceState&)>& fold);

// The request with a number of threads where it leaves that to the context. ctx may be null.
CompactRequest with_threads_of(const llama_context* ctx, CompactRequest request);

// The API hands out the model as const, and asks for it as mutable to create a second context of it.
inline llama_model* model_of(const llama_context* ctx) {
    return ctx ? const_cast<llama_model*>(llama_get_model(ctx)) : nullptr;
}

} // namespace kvfold
