// On-policy study: what the model asks once the compact cache is in place.
#pragma once

#include "engine/compact.h"
#include "study/probe.h"

namespace kvfold {

// Reads the method's passages again on the compact cache of `first`, and solves each head again with these
// queries in place of those that the full cache made the model ask. What a query should get stays what the
// full cache gives it. Only heads that gain are replaced: a fifth of the tokens is held out, the head is
// fitted to the others once as the full and once as the compact cache makes the model ask them, and the
// second fit must serve the held-out on-policy queries better (solve/loss.h). To judge `first` itself by
// them is unfair to the second fit: `first` has seen these tokens, and was kept in 87 to 89 of 90 heads.
// off_policy: the study that `first` was solved with. Adds to the report's times and study_tokens and sets
// heads_refitted. REQUIRES: a method without drafts. Fails as read_in_scratch and solve_layers do.
Result<Solution> refit_on_policy(llama_model* model, const AttentionMap& map, const SequenceState& snapshot,
                                 const Study& off_policy, const Solution& first,
                                 const CompactRequest& request, CompactReport& report);

} // namespace kvfold
