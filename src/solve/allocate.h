// How many cells each head gets, when the heads of a cache need not all have as many.
#pragma once

#include "base/matrix.h"

#include <span>
#include <vector>

namespace kvfold {

// errors[h][k]: what head h loses with cells[k] cells. cells: rising. Between the points a head's error is
// taken as the lower convex hull of its points, so that a cell more never gains more than the one before it;
// then to give each next cell to the head that gains most is the best there is:
//
//   argmin sum_h error_h(t_h)   over   sum_h t_h = total,   cells.front() <= t_h <= cells.back()
//
// Equal gains go to the head that stands first. Returns [heads]. REQUIRES: heads * cells.front() <= total <=
// heads * cells.back().
std::vector<Index> allocate_cells(std::span<const Index> cells,
                                  const std::vector<std::vector<double>>& errors, Index total);

} // namespace kvfold
