// Which cells stay, for all heads together; the problem and its order are those of solve/omp.h.
#pragma once

#include "device/head_tensors.h"

#include <cstdint>
#include <span>
#include <vector>

namespace kvfold::device {

inline constexpr Index kLargestBlock = 128; // candidates that are taken out at once

// candidates: [heads] as many rising cells each, pinned: [heads] rising cells of them. Leaves the candidates'
// mass shares in held.shares and their Gram matrix in held.first_gram. Returns [heads] t rising positions
// among the candidates.
//
// A matrix of M candidates is on the device, and each step takes a block of at most s of them out of it:
//
//   G <- G - U^T U,   correlation <- correlation - (W c)^T U,   U = W G_block
//
// W is the inverse of the factor of the block's own s x s system, which the host makes in double precision,
// in the greedy order and with the drops of solve/omp.cpp. So the device multiplies matrices and nothing
// else, and a step reads back M + s (s + 1 + dv) floats a head. G itself is updated, which costs M^2 s a
// step: M t / 2 would do with a factor of all chosen cells, but then heads that drop different cells need
// different shapes.
Result<std::vector<std::vector<int32_t>>> pursue(HeadTensors& held,
                                                 std::span<const std::vector<uint32_t>> candidates,
                                                 std::span<const std::vector<uint32_t>> pinned);

} // namespace kvfold::device
