// What the methods do with a head, by their names: those that solve it once, with the queries that they have.
#pragma once

#include "base/result.h"
#include "solve/head.h"

#include <string_view>

namespace kvfold {

namespace plans {
inline constexpr SolvePlan select = {.fit_bias = false, .fit_values = false};
inline constexpr SolvePlan solver = {};
inline constexpr SolvePlan omp = {.pursued = 1};
inline constexpr SolvePlan refine = {.refine_steps = 12, .pursued = 0.25f};
inline constexpr SolvePlan omp_refine = {.refine_steps = 64, .pursued = 0.5f};
} // namespace plans

// Fails with invalid_argument, naming those that exist.
Result<SolvePlan> find_plan(std::string_view name);

} // namespace kvfold
