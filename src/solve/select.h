// Which cells stay: those that the reference queries look at most (arXiv 2602.16284, section 3).
#pragma once

#include "base/matrix.h"

#include <cstdint>
#include <span>
#include <vector>

namespace kvfold {

// The `pinned` cells, then the best scores until `kept` cells are chosen; equal scores go to the lower
// index. score: [T]. Returns [kept] rising indices.
// REQUIRES: pinned rising, below T, at most `kept` of them; kept <= T.
std::vector<uint32_t> select_cells(const Vector& score, Index kept, std::span<const uint32_t> pinned);

} // namespace kvfold
