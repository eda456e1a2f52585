// Gradient steps on the keys of all heads; loss and steps are those of solve/refine.h.
#pragma once

#include "device/head_tensors.h"
#include "solve/head.h"

#include <span>

namespace kvfold::device {

// Moves compact_keys, and keeps those that were given for heads whose loss over all queries is not lower
// afterwards. steps: as SolvePlan::refine_steps. problems: one for each head.
Status refine_keys(HeadTensors& held, std::span<const HeadProblem> problems, int steps);

} // namespace kvfold::device
