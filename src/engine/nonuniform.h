// Budgets of their own for each layer and KV head, where the error is measured to be worth them.
#pragma once

#include "engine/solve_layers.h"

namespace kvfold {

// Measures each head's matching loss at a quarter, half, once and twice the uniform budget t (without
// refinement), gives out as many cells in all as uniform budgets would (solve/allocate.h), and solves with
// them. All heads share the cells of the cache: regions.folded becomes the largest budget, and the slots
// that a head does not need are neutral (solve/neutral.h). A head whose queries allow no neutral key fills
// all slots. Fails as solve_layers does.
Result<Solution> solve_nonuniform(const KvSection& section, Regions& regions, const AttentionMap& map,
                                  const Study& study, const SolvePlan& plan, const SolveLimits& limits,
                                  const ProgressFn& progress);

} // namespace kvfold
