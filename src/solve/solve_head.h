// Attention matching for ONE KV head (arXiv 2602.16284, section 3): replace T cells by t << T cells whose
// attention output and attention mass stay almost the same for the reference queries.
//
//   select -> bias -> absorb -> refine -> round -> values
#pragma once

#include "base/result.h"
#include "solve/head.h"

namespace kvfold {

// REQUIRES: shapes that agree. Fails with invalid_argument on empty or disagreeing shapes, t or pinned
// out of range; with numeric on NaN or infinity in the input or the result. Never returns NaN.
// t = T returns the cells as they are.
Result<CompactHead> solve_head(const HeadProblem& problem, const SolvePlan& plan,
                               const SolveRequest& request);

} // namespace kvfold
