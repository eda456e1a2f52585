#include "engine/sequence_log.h"

#include "state/folded_region.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace kvfold {

namespace {

struct Range {
    llama_pos p0, p1;
};

Range closed(llama_pos p0, llama_pos p1) {
    return {std::max(p0, 0), p1 < 0 ? std::numeric_limits<llama_pos>::max() : p1};
}

bool holds(const SequenceLog::Fold& fold, llama_pos pos) { return pos >= fold.begin && pos < fold.end; }

bool covers(const SequenceLog::Fold& fold, const SequenceLog::Fold& other) {
    return fold.begin <= other.begin && fold.end >= other.end;
}

SequenceLog::Fold within(const SequenceLog::Fold& fold, const Range& range) {
    const llama_pos begin = std::max(fold.begin, range.p0), end = std::min(fold.end, range.p1);
    return begin < end ? SequenceLog::Fold{begin, end, fold.cells} : SequenceLog::Fold{};
}

} // namespace

SequenceLog SequenceLog::from_positions(std::span<const llama_pos> positions,
                                        std::vector<llama_token> tokens) {
    SequenceLog log;
    if (positions.empty()) return log;
    const llama_pos end = positions.back() + 1;
    tokens.resize(static_cast<size_t>(end), LLAMA_TOKEN_NULL);
    log.tokens_ = std::move(tokens);
    log.cells_.resize(log.tokens_.size());
    for (const llama_pos pos : positions)
        ++log.cells_[static_cast<size_t>(pos)];
    const FoldedRegion region = folded_region(positions);
    if (region.begin < region.end) log.set_fold({region.begin, region.end, region.cells});
    return log;
}

uint32_t SequenceLog::cells() const { return std::accumulate(cells_.begin(), cells_.end(), fold_.cells); }

bool SequenceLog::knows_all_tokens() const {
    return std::find(tokens_.begin(), tokens_.end(), LLAMA_TOKEN_NULL) == tokens_.end();
}

void SequenceLog::set(llama_pos pos, llama_token token) {
    if (pos < 0) return;
    const auto at = static_cast<size_t>(pos);
    if (at >= tokens_.size()) {
        tokens_.resize(at + 1, LLAMA_TOKEN_NULL);
        cells_.resize(at + 1);
    }
    tokens_[at] = token;
    ++(holds(fold_, pos) ? fold_.cells : cells_[at]);
}

bool SequenceLog::tears_fold(llama_pos p0, llama_pos p1) const {
    const Range range = closed(p0, p1);
    const bool touches = range.p0 < fold_.end && range.p1 > fold_.begin;
    const bool takes_all = range.p0 <= fold_.begin && range.p1 >= fold_.end;
    return !fold_.empty() && touches && !takes_all;
}

void SequenceLog::remove(llama_pos p0, llama_pos p1) {
    const Range range = closed(p0, p1);
    if (range.p0 <= fold_.begin && range.p1 >= fold_.end) fold_ = {};
    for (llama_pos pos = range.p0; pos < std::min(range.p1, end()); ++pos) {
        tokens_[static_cast<size_t>(pos)] = LLAMA_TOKEN_NULL;
        cells_[static_cast<size_t>(pos)] = 0;
    }
    trim();
}

void SequenceLog::trim() {
    while (!cells_.empty() && cells_.back() == 0 && end() != fold_.end) {
        tokens_.pop_back();
        cells_.pop_back();
    }
}

bool SequenceLog::copy(const SequenceLog& from, llama_pos p0, llama_pos p1) {
    const Range range = closed(p0, p1);
    const llama_pos last = std::min(range.p1, from.end());
    if (range.p0 >= last) return true;
    if (end() < last) {
        tokens_.resize(static_cast<size_t>(last), LLAMA_TOKEN_NULL);
        cells_.resize(static_cast<size_t>(last));
    }
    Fold fold = within(from.fold_, range);
    bool exact = !from.tears_fold(p0, p1);
    for (llama_pos pos = range.p0; pos < last; ++pos) {
        const auto at = static_cast<size_t>(pos);
        const bool here = cells_[at] > 0 || holds(fold_, pos);
        const bool there = from.cells_[at] > 0 || holds(fold, pos);
        exact = exact && !(here && there);
        if (from.tokens_[at] != LLAMA_TOKEN_NULL) tokens_[at] = from.tokens_[at];
        (holds(fold_, pos) ? fold_.cells : cells_[at]) += from.cells_[at];
        if (holds(fold, pos)) fold.cells += cells_[at];
    }
    if (!fold.empty()) {
        if (covers(fold, fold_)) fold.cells += fold_.cells;
        set_fold(fold);
    }
    trim();
    return exact;
}

void SequenceLog::set_fold(const Fold& fold) {
    const Fold old = fold_;
    fold_ = fold;
    if (!old.empty() && !covers(fold, old)) {
        fold_.begin = std::min(fold.begin, old.begin);
        fold_.end = std::max(fold.end, old.end);
        fold_.cells += old.cells;
    }
    for (llama_pos pos = fold_.begin; pos < std::min(fold_.end, end()); ++pos) {
        uint32_t& cells = cells_[static_cast<size_t>(pos)];
        if (!holds(fold, pos)) fold_.cells += cells;
        cells = 0;
    }
}

} // namespace kvfold
