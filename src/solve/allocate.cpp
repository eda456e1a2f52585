#include "solve/allocate.h"

#include <algorithm>

namespace kvfold {
namespace {

// A stretch of one head's curve on which every cell gains the same.
struct Stretch {
    size_t head;
    Index cells;
    double gain; // of each cell, >= 0
};

// The lower convex hull from the first point on, as stretches of falling gain.
void append_stretches(size_t head, std::span<const Index> cells, const std::vector<double>& errors,
                      std::vector<Stretch>& stretches) {
    for (size_t from = 0; from + 1 < cells.size();) {
        size_t to = from + 1;
        double best = 0;
        for (size_t next = from + 1; next < cells.size(); ++next) {
            const double gain =
                (errors[from] - errors[next]) / static_cast<double>(cells[next] - cells[from]);
            if (next == from + 1 || gain >= best) best = gain, to = next;
        }
        stretches.push_back({head, cells[to] - cells[from], std::max(best, 0.0)});
        from = to;
    }
}

} // namespace

std::vector<Index> allocate_cells(std::span<const Index> cells,
                                  const std::vector<std::vector<double>>& errors, Index total) {
    std::vector<Stretch> stretches;
    for (size_t head = 0; head < errors.size(); ++head)
        append_stretches(head, cells, errors[head], stretches);
    std::stable_sort(stretches.begin(), stretches.end(),
                     [](const Stretch& a, const Stretch& b) { return a.gain > b.gain; });
    std::vector<Index> budgets(errors.size(), cells.front());
    Index left = total - static_cast<Index>(errors.size()) * cells.front();
    for (const Stretch& stretch : stretches) {
        const Index given = std::min(left, stretch.cells);
        budgets[stretch.head] += given;
        left -= given;
    }
    return budgets;
}

} // namespace kvfold
