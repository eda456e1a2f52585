// The plain strategy: one study of the full cache, one solve of all heads.
#pragma once

#include "fit/fit.h"

#include <functional>

namespace kvfold {

// How the heads of a region are solved with one study.
using SolveRegion = std::function<Result<Solution>(const RegionProblem& problem, const Study& study)>;

// Studies once and solves by `solve`. Fails as study_region and `solve` do.
Result<Fitted> study_and_solve(const RegionProblem& problem, const SolveRegion& solve);

// Fails as study_region and solve_layers do.
Result<Fitted> fit_at_once(const RegionProblem& problem);

} // namespace kvfold
