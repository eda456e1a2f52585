// What can be wrong with a head, before and after it is solved.
#pragma once

#include "base/result.h"
#include "solve/head.h"

namespace kvfold {

// As solve_head fails.
Status check_head(const HeadProblem& problem, const SolveRequest& request);

// Fails with numeric on NaN or infinity.
Status check_result(const CompactHead& head);
Status check_rounded(const MatrixView& keys);

// The cells as they are: what t = T asks for.
CompactHead keep_all(const HeadProblem& problem);

// Of the kept cells, those that the queries look at most; the others are pursued. pursued: as in SolvePlan.
Index cells_by_score(float pursued, const SolveRequest& request);

} // namespace kvfold
