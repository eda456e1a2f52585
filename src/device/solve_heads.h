// Attention matching for KV heads of one shape, those of a layer or of several, on a device: what
// solve/solve_head.h does for one head on the processor.
//
//   select -> bias -> absorb -> refine -> round -> values
#pragma once

#include "device/head_tensors.h"
#include "solve/absorb.h"
#include "solve/head.h"

#include <span>
#include <vector>

namespace kvfold::device {

// The heads, and what the processor finds out about them before a device is needed.
struct PreparedHeads {
    std::span<const HeadProblem> heads;
    std::vector<AbsorbDirection> directions; // one for each head where a bias is fitted
    PackedHeads packed;                      // of all heads, where they are solved
};

// heads: of equal shapes and caps, and outlive the result. Fails as solve_head does.
Result<PreparedHeads> prepare_heads(std::span<const HeadProblem> heads, const SolvePlan& plan,
                                    const SolveRequest& request, int threads = 1);

// request: of each head; its pinned cells are those of all. Up to 15 of the queries are left out. Fails as
// solve_head does; with unsupported where there are fewer than 16, or the device cannot compute what is
// needed; and with memory where it has too little.
//
// As many heads are solved together as half of the device's free memory holds, at least one. A device that
// rounds the operands of products finds other cells now and then, and keys and values that are as good.
Result<std::vector<CompactHead>> solve_heads(Backend& backend, const PreparedHeads& prepared,
                                             const SolvePlan& plan, const SolveRequest& request);

} // namespace kvfold::device
