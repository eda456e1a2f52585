// The weight of each kept cell, so that the attention mass stays.
#pragma once

#include "base/matrix.h"
#include "base/result.h"
#include "solve/ridge.h"

namespace kvfold {

inline constexpr double kLargestBias = 3; // w in [e^-3, e^3]
inline constexpr double kBiasRidge = 1e-4;

// A: [n, t], A_ij = r_i exp(S_ij - m_i): r times the share of query i's full mass that kept cell j holds.
// roots: r: [n] (attention.h).
//
//   w = argmin ||A w - r||^2 + lambda ||w - 1||^2,   e^-3 <= w_j <= e^3,   lambda = 1e-4 x mean eigenvalue
//
// Rows are divided by the full mass (section 3 of arXiv 2602.16284) and count by importance, which is ours.
// The ridge pulls towards w = 1, the cell as it is: cells that hold almost no mass would otherwise be pushed
// to a bound by noise. Returns b = log w: [t].
Result<Vector> fit_bias(const Matrix& shares, const Vector& roots);

// The same with A^T A at hand.
Result<Vector> fit_bias(const Matrix& shares, const Vector& roots, MatrixD gram);

} // namespace kvfold
