// Values for the compact cells, so that the attention output stays.
#pragma once

#include "base/matrix.h"
#include "base/result.h"

namespace kvfold {

inline constexpr double kValueRidge = 1e-3;

// X: [n, t] probabilities over the compact keys as they will be stored, Y: [n, dv] the full output, both times
// r (attention.h), V_sel: [t, dv] the kept values.
//
//   V' = V_sel + C,   C = argmin ||(Y - X V_sel) - X C||^2 + lambda ||C||^2
//   (X^T X + lambda I) C = X^T (Y - X V_sel),   lambda = 1e-3 x mean eigenvalue of X^T X
//
// Section 3 of arXiv 2602.16284 solves for V' itself. Solving for a correction makes the ridge pull towards
// the kept values and not towards zero, which matters wherever n is not much larger than t. values: V_sel in,
// V' out.
Status fit_values(const Matrix& probabilities, const Matrix& output, Matrix& values);

} // namespace kvfold
