// Budgets of their own for each layer and KV head, where the error is measured to be worth them.
#pragma once

#include "fit/fit.h"

namespace kvfold {

// Measures each head's matching loss at a quarter, half, once and twice the uniform budget t (without
// refinement), gives out as many cells in all as uniform budgets would (solve/allocate.h), and solves with
// them. All heads share the cells of the cache: the region becomes as many cells as the largest budget, and
// the slots that a head does not need are neutral (solve/neutral.h). A head whose queries allow no neutral
// key fills all slots. Reports "neutral cells": of a head, on average. Fails as study_region and solve_layers
// do.
Result<Fitted> fit_nonuniform(const RegionProblem& problem);

} // namespace kvfold
