#include "engine/policy.h"

#include "base/limits.h"

#include <algorithm>

namespace kvfold {

namespace {

// Old folds are folded again when they fill more than this of the room below the high-water mark, by kRefold.
constexpr double kMostFolded = 0.75;
constexpr double kRefold = 2;
constexpr size_t kLeastGain = 64, kLeastUrgentGain = 16; // cells
// A program that asks for an answer once more cuts one token before it, and asks for cells before that.
constexpr size_t kBeforeChange = 2;
constexpr size_t kLeastGainBeforeChange = 8; // a share of the cells: a long answer is folded like other text

// Cells of the part that are never folded: those of a beginning, which attention sinks are in. Behind a
// beginning one cell stands where the fold ends even when all is dropped: else nothing would tell that there
// is a fold.
size_t head_of(const Foldable& part, const Policy& policy) {
    return part.untouched > 0 ? 1 : static_cast<size_t>(policy.keep_first);
}

// Of the newest cells, those that are in the part.
size_t tail_of(const Foldable& part, size_t newest) { return newest - std::min(newest, part.behind); }

FoldPlan plan_of(const Foldable& part, size_t after, size_t kept_first, size_t kept_last) {
    Budget budget = exact_budget(part.all(), part.all() - part.cells + after, part.untouched + kept_first,
                                 kept_last + part.behind);
    budget.untouched = static_cast<int>(part.untouched);
    return {budget, {}, part.cells, after};
}

// newest: cells of the sequence that are kept as they are.
std::optional<FoldPlan> plan_with(const Foldable& part, const Policy& policy, size_t cells, bool urgent,
                                  size_t newest) {
    const size_t before = part.cells, head = head_of(part, policy), tail = tail_of(part, newest);
    const size_t kept = std::max(head, part.folded); // a fold holds the head too
    if (before <= head + tail + 2) return std::nullopt;
    const size_t fresh = before - std::min(before, kept + tail);
    const auto fresh_after =
        std::min(fresh, std::max<size_t>(2, static_cast<size_t>(static_cast<double>(fresh) / policy.ratio)));
    const size_t least_gain = urgent ? kLeastUrgentGain : kLeastGain;

    const size_t newer = kept + fresh_after + tail; // cells after folding what is new
    // Counted with the cells that are never folded, the room of a long system prompt was full at every fold.
    const double mark = policy.high_water * static_cast<double>(cells);
    const double never_folded = std::min(mark, static_cast<double>(head));
    const double most = never_folded + kMostFolded * (mark - never_folded);
    const bool fits = part.folded == 0 || static_cast<double>(newer) <= most;
    if (fits && newer + least_gain <= before) {
        FoldPlan plan = plan_of(part, newer, kept, tail);
        if (part.originals > 0 && part.originals + fresh <= kFoldedTogether)
            plan.together = plan_of(part, newer, head, tail).budget;
        return plan;
    }

    // Old folds are folded again when they fill the room, or when nothing else frees cells that are needed
    // now.
    if (part.folded == 0 || (fits && !urgent)) return std::nullopt;
    const auto all = static_cast<size_t>(static_cast<double>(kept - head + fresh_after) / kRefold);
    const size_t whole = head + std::max<size_t>(2, all) + tail;
    if (whole + least_gain > before) return std::nullopt;
    return plan_of(part, whole, head, tail);
}

// Else they are worn by one more fold.
bool leaves_folds(const Foldable& part, const FoldPlan& plan) {
    return static_cast<size_t>(plan.budget.keep_first) >= part.untouched + part.folded;
}

} // namespace

Status check(const Policy& policy) {
    KVFOLD_CHECK(check(limits::high_water, policy.high_water));
    return check(Budget{policy.ratio, policy.keep_first, policy.keep_last});
}

size_t newest_kept(const Policy& policy, size_t cells) {
    if (policy.keep_last >= 0) return static_cast<size_t>(policy.keep_last);
    return std::min<size_t>(256, cells / 8);
}

std::optional<FoldPlan> plan_fold(const Foldable& part, const Policy& policy, size_t cells, bool urgent) {
    const size_t kept = newest_kept(policy, cells), newest = urgent ? std::min(kept, part.cells / 8) : kept;
    const auto plan = plan_with(part, policy, cells, urgent, newest);
    const size_t with_changing = part.changing + kBeforeChange;
    const size_t unfolded = part.behind + part.cells - part.folded; // a fold cannot be spared
    if (!plan || part.changing == 0 || with_changing <= newest || with_changing > unfolded) return plan;
    const auto sparing = plan_with(part, policy, cells, urgent, with_changing);
    const bool gains = sparing && sparing->gain() >= cells / kLeastGainBeforeChange;
    return gains && (leaves_folds(part, *sparing) || !leaves_folds(part, *plan)) ? sparing : plan;
}

Status check_room(const Policy& policy, size_t cells) {
    if (!policy.automatic || plan_fold({.cells = cells}, policy, cells, /*urgent=*/true)) return {};
    const size_t tail = std::min(newest_kept(policy, cells), cells / 8);
    const size_t most = cells - std::min(cells, tail + 2 + 2 * kLeastUrgentGain);
    return fail(
        ErrorCode::invalid_argument,
        "nothing of {} cells could ever be folded with keep_first {} and ratio {:g}; give keep_first up to {}, "
        "and a ratio of 2 or more",
        cells, policy.keep_first, policy.ratio, most);
}

Budget whole_budget(const Foldable& part, const Policy& policy, double ratio) {
    const auto after = static_cast<size_t>(static_cast<double>(part.cells) / ratio);
    const size_t head = head_of(part, policy), room = after > head ? (after - head) / 4 : 0;
    const size_t tail =
        policy.keep_last >= 0 ? static_cast<size_t>(policy.keep_last) : std::min<size_t>(256, room);
    if (part.untouched + part.behind > 0) return plan_of(part, after, head, tail_of(part, tail)).budget;
    Budget budget;
    budget.ratio = ratio;
    budget.keep_first = policy.keep_first;
    budget.keep_last = static_cast<int>(tail);
    return budget;
}

} // namespace kvfold
