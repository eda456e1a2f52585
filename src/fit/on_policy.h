// On-policy study: what the model asks once the compact cache is in place.
#pragma once

#include "fit/fit.h"

namespace kvfold {

// Fits at once, reads the passages again on the compact cache, and solves each head again with these queries
// in place of those that the full cache made the model ask. What a query should get stays what the full cache
// gives it. Only heads that gain are replaced: a fifth of the tokens is held out, the head is fitted to the
// others once as the full and once as the compact cache makes the model ask them, and the second fit must
// serve the held-out on-policy queries better (solve/loss.h). To judge the first fit itself by them is unfair
// to the second: the first has seen these tokens, and was kept in nearly all heads. Reports "heads refitted".
// REQUIRES: a study without drafts. Fails as read_in_scratch and solve_layers do.
Result<Fitted> fit_on_policy(const RegionProblem& problem);

} // namespace kvfold
