// The plain strategy: one study of the full cache, one solve of all heads.
#pragma once

#include "fit/fit.h"

namespace kvfold {

// Fails as study_region and solve_layers do.
Result<Fitted> fit_at_once(const RegionProblem& problem);

} // namespace kvfold
