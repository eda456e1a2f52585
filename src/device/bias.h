// The weight of each kept cell, for all heads; the problem is that of solve/bias.h.
#pragma once

#include "device/head_tensors.h"

namespace kvfold::device {

inline constexpr int kWeightSteps = 50;

// shares: A of the kept cells, 0 for slots without one: [n, t, h], gram: A^T A [t, t, h]. Projected gradient
// steps with momentum (FISTA: Beck and Teboulle 2009) from w = 1; a step is one product of the Gram matrix
// with a vector. The weights go into held.weights.
Status fit_weights(HeadTensors& held, Tensor shares, Tensor gram);

} // namespace kvfold::device
