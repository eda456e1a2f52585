#include "engine/policy.h"

#include "base/limits.h"

#include <algorithm>

namespace kvfold {

namespace {

// Old folds are folded again when they fill more than this of the room below the high-water mark, by kRefold.
constexpr double kMostFolded = 0.75;
constexpr double kRefold = 2;
constexpr size_t kLeastGain = 64, kLeastUrgentGain = 16; // cells

} // namespace

Status check(const Policy& policy) {
    KVFOLD_CHECK(check(limits::high_water, policy.high_water));
    return check(Budget{policy.ratio, policy.keep_first, policy.keep_last});
}

size_t newest_kept(const Policy& policy, size_t cells) {
    if (policy.keep_last >= 0) return static_cast<size_t>(policy.keep_last);
    return std::min<size_t>(256, cells / 8);
}

std::optional<FoldPlan> plan_fold(const SequenceLog& log, const Policy& policy, size_t cells, bool urgent) {
    const size_t before = log.cells();
    const auto head = static_cast<size_t>(policy.keep_first);
    const size_t tail =
        urgent ? std::min(newest_kept(policy, cells), before / 8) : newest_kept(policy, cells);
    const size_t folded = log.fold().cells;
    if (before <= head + tail + 2) return std::nullopt;
    const size_t fresh = before - std::min(before, head + folded + tail);
    const auto fresh_after =
        std::min(fresh, std::max<size_t>(2, static_cast<size_t>(static_cast<double>(fresh) / policy.ratio)));
    const size_t least_gain = urgent ? kLeastUrgentGain : kLeastGain;

    const size_t newer = head + folded + fresh_after + tail; // cells after folding what is new
    // Counted with the cells that are never folded, the room of a long system prompt was full at every fold.
    const double mark = policy.high_water * static_cast<double>(cells);
    const double never_folded = std::min(mark, static_cast<double>(head));
    const double most = never_folded + kMostFolded * (mark - never_folded);
    const bool fits = folded == 0 || static_cast<double>(newer) <= most;
    if (fits && newer + least_gain <= before)
        return FoldPlan{exact_budget(before, newer, head + folded, tail), before, newer};

    // Old folds are folded again when they fill the room, or when nothing else frees cells that are needed
    // now.
    if (folded == 0 || (fits && !urgent)) return std::nullopt;
    const auto all = static_cast<size_t>(static_cast<double>(folded + fresh_after) / kRefold);
    const size_t whole = head + std::max<size_t>(2, all) + tail;
    if (whole + least_gain > before) return std::nullopt;
    return FoldPlan{exact_budget(before, whole, head, tail), before, whole};
}

Budget whole_budget(const SequenceLog& log, const Policy& policy, double ratio) {
    const size_t before = log.cells();
    const auto after = static_cast<size_t>(static_cast<double>(before) / ratio);
    const auto head = static_cast<size_t>(policy.keep_first);
    const size_t room = after > head ? (after - head) / 4 : 0;
    Budget budget;
    budget.ratio = ratio;
    budget.keep_first = policy.keep_first;
    budget.keep_last = static_cast<int>(policy.keep_last >= 0 ? static_cast<size_t>(policy.keep_last)
                                                              : std::min<size_t>(256, room));
    return budget;
}

} // namespace kvfold
