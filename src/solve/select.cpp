#include "solve/select.h"

#include <algorithm>

namespace kvfold {

std::vector<uint32_t> select_cells(const Vector& score, Index kept, std::span<const uint32_t> pinned) {
    const auto cells = static_cast<uint32_t>(score.size());
    std::vector<uint32_t> chosen(pinned.begin(), pinned.end());
    std::vector<uint32_t> others;
    others.reserve(cells);
    for (uint32_t j = 0; j < cells; ++j) {
        if (!std::binary_search(pinned.begin(), pinned.end(), j)) others.push_back(j);
    }
    const auto wanted = static_cast<std::ptrdiff_t>(kept) - std::ssize(pinned);
    std::nth_element(others.begin(), others.begin() + wanted, others.end(), [&](uint32_t a, uint32_t b) {
        return score[a] != score[b] ? score[a] > score[b] : a < b;
    });
    chosen.insert(chosen.end(), others.begin(), others.begin() + wanted);
    std::sort(chosen.begin(), chosen.end());
    return chosen;
}

} // namespace kvfold
