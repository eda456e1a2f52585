// What a compact head loses: the one number that refinement lowers and that decides between two fits.
#pragma once

#include "solve/attention.h"

namespace kvfold {

inline constexpr float kMassWeight = 0.3f; // mu

// With y = mean_i ||Y_i||^2, over the queries that `full` and `compact` were asked, rows times r
// (attention.h):
//
//   L = 1/n sum_i  ||X_i V' - Y_i||^2 / y  +  mu r_i^2 (m'_i - m_i)^2
//
// values: V': [t, dv].
double matching_loss(const FullAttention& full, const CompactAttention& compact, const Matrix& values);

// y, never 0.
float mean_square(const Matrix& output);

} // namespace kvfold
