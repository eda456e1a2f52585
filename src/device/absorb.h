// The keys take the bias in, for all heads; as solve/absorb.h has it for one.
#pragma once

#include "device/head_tensors.h"
#include "solve/absorb.h"

#include <span>

namespace kvfold::device {

// The weights are those of held.weights. directions: one for each head. shares: A of the kept cells [n, t,
// h]. keys: [heads] each [t, d], changed in place.
Status absorb_weights(HeadTensors& held, std::span<const AbsorbDirection> directions, std::span<Matrix> keys,
                      Tensor shares);

} // namespace kvfold::device
