#include "fit/regions.h"

#include "base/format.h"
#include "base/limits.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <random>

namespace kvfold {

namespace {

Regions split(const std::vector<uint32_t>& order, size_t head, size_t folded, size_t tail,
              std::vector<uint32_t> pinned) {
    const auto begin = order.begin(), end = order.end();
    const auto head_end = begin + static_cast<std::ptrdiff_t>(head);
    const auto tail_begin = end - static_cast<std::ptrdiff_t>(tail);
    Regions regions;
    regions.head = {begin, head_end};
    regions.region = {head_end, tail_begin};
    regions.tail = {tail_begin, end};
    regions.folded = static_cast<uint32_t>(folded);
    regions.pinned = std::move(pinned);
    return regions;
}

// Cells drawn by lot stay verbatim in the place of the folded ones. The region's last cell is never drawn:
// the region ends where it stands.
void draw_instead_of_folding(Regions& regions, uint64_t seed) {
    std::vector<uint32_t> drawn, dropped;
    std::mt19937_64 rng(seed);
    size_t candidates = regions.region.size() - 1;
    for (const uint32_t cell : regions.region) {
        const bool is_drawn = candidates > 0 && rng() % candidates < regions.folded - drawn.size();
        (is_drawn ? drawn : dropped).push_back(cell);
        if (candidates > 0) --candidates;
    }
    regions.pinned.insert(regions.pinned.end(), drawn.begin(), drawn.end());
    regions.region = std::move(dropped);
    regions.folded = 0;
}

} // namespace

Status check(const Budget& budget) {
    KVFOLD_CHECK(check(limits::ratio, budget.ratio));
    KVFOLD_CHECK(check(limits::keep_first, budget.keep_first));
    return check(limits::keep_last, budget.keep_last);
}

Budget exact_budget(size_t before, size_t after, size_t keep_first, size_t keep_last) {
    return {static_cast<double>(before) / static_cast<double>(after), static_cast<int>(keep_first),
            static_cast<int>(keep_last)};
}

Result<Regions> plan_regions(const KvSection& section, const Budget& budget, Keep keep, uint64_t seed) {
    KVFOLD_CHECK(check(budget));
    std::vector<uint32_t> order = cells_by_position(section), pinned;
    const size_t cells = order.size();
    const auto target = static_cast<size_t>(std::llround(static_cast<double>(cells) / budget.ratio));
    const auto head = static_cast<size_t>(budget.keep_first);
    if (target >= cells) return split(order, cells, 0, 0, {});
    if (section.has_extra) {
        const auto is_pinned = [&](uint32_t cell) { return is_embedding(section.cells[cell]); };
        std::copy_if(order.begin(), order.end(), std::back_inserter(pinned), is_pinned);
        std::erase_if(order, is_pinned);
    }
    if (target < pinned.size() + head + 2)
        return fail(ErrorCode::invalid_argument,
                    "ratio {} leaves {} of {} cells, fewer than keep_first {} + 2{}; lower "
                    "the ratio or keep_first",
                    budget.ratio, target, cells, head,
                    pinned.empty() ? "" : kvfold::format(" + {} of images", pinned.size()));
    const size_t left = target - head - pinned.size();
    const auto parted = [&](size_t first, size_t folded, size_t last) {
        Regions regions = split(order, first, folded, last, std::move(pinned));
        regions.untouched = static_cast<size_t>(budget.untouched);
        return regions;
    };
    if (keep == Keep::newest) return parted(head, 0, left);
    if (keep == Keep::oldest) return parted(head + left - 1, 0, 1);
    const size_t tail =
        budget.keep_last >= 0 ? static_cast<size_t>(budget.keep_last) : std::min<size_t>(32, left / 8);
    if (tail >= left)
        return fail(ErrorCode::invalid_argument,
                    "ratio {} leaves {} of {} cells, no room beside keep_first {} and keep_last "
                    "{}; lower the ratio or keep less",
                    budget.ratio, target, cells, head, tail);
    Regions regions = parted(head, left - tail, tail);
    if (keep == Keep::random) draw_instead_of_folding(regions, seed);
    return regions;
}

} // namespace kvfold
