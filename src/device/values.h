// Values for the compact cells of all heads; the problem is that of solve/values.h.
#pragma once

#include "device/head_tensors.h"

namespace kvfold::device {

inline constexpr int kValueSteps = 16;

// From compact_keys and chosen: `fitted`, and the sums of squares that it leaves: errors and mass_errors.
// Conjugate gradients on (X^T X + lambda I) C = X^T (Y - X V_sel), preconditioned by the diagonal, all
// columns at once.
Status fit_values(HeadTensors& held);

// The sums of squares that compact_keys and `fitted` leave as they are.
Status measure(HeadTensors& held);

} // namespace kvfold::device
