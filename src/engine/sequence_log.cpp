#include "engine/sequence_log.h"

#include "state/folded_region.h"

#include <algorithm>
#include <limits>

namespace kvfold {

namespace {

struct Range {
    llama_pos p0, p1;
};

Range closed(llama_pos p0, llama_pos p1) {
    return {std::max(p0, 0), p1 < 0 ? std::numeric_limits<llama_pos>::max() : p1};
}

} // namespace

SequenceLog SequenceLog::from_positions(std::span<const llama_pos> positions,
                                        std::vector<llama_token> tokens) {
    SequenceLog log;
    if (positions.empty()) return log;
    const llama_pos end = positions.back() + 1;
    tokens.resize(static_cast<size_t>(end), LLAMA_TOKEN_NULL);
    log.tokens_ = std::move(tokens);
    const FoldedRegion region = folded_region(positions);
    log.fold_ = {region.begin, region.end, region.cells};
    return log;
}

bool SequenceLog::knows_all_tokens() const {
    return std::find(tokens_.begin(), tokens_.end(), LLAMA_TOKEN_NULL) == tokens_.end();
}

void SequenceLog::set(llama_pos pos, llama_token token) {
    if (pos < 0) return;
    const auto at = static_cast<size_t>(pos);
    if (at >= tokens_.size()) {
        holes_ += static_cast<uint32_t>(at - tokens_.size());
        tokens_.resize(at + 1, LLAMA_TOKEN_NULL);
    }
    tokens_[at] = token;
}

bool SequenceLog::tears_fold(llama_pos p0, llama_pos p1) const {
    const Range range = closed(p0, p1);
    const bool touches = range.p0 < fold_.end && range.p1 > fold_.begin;
    const bool covers = range.p0 <= fold_.begin && range.p1 >= fold_.end;
    return !fold_.empty() && touches && !covers;
}

void SequenceLog::remove(llama_pos p0, llama_pos p1) {
    const Range range = closed(p0, p1);
    if (range.p0 >= end()) return;
    if (range.p0 <= fold_.begin && range.p1 >= fold_.end) {
        if (range.p1 < end()) holes_ += static_cast<uint32_t>(fold_.end - fold_.begin);
        fold_ = {};
    }
    if (range.p1 >= end()) {
        tokens_.resize(static_cast<size_t>(range.p0));
        if (tokens_.empty()) holes_ = 0;
        return;
    }
    for (llama_pos pos = range.p0; pos < range.p1; ++pos)
        tokens_[static_cast<size_t>(pos)] = LLAMA_TOKEN_NULL;
    holes_ += static_cast<uint32_t>(range.p1 - range.p0);
    holes_ = std::min(holes_, static_cast<uint32_t>(end()));
}

void SequenceLog::copy(const SequenceLog& from, llama_pos p0, llama_pos p1) {
    const Range range = closed(p0, p1);
    const llama_pos last = std::min(range.p1, from.end());
    for (llama_pos pos = range.p0; pos < last; ++pos)
        set(pos, from.tokens_[static_cast<size_t>(pos)]);
    const bool takes_fold = range.p0 <= from.fold_.begin && range.p1 >= from.fold_.end;
    if (!from.fold_.empty() && takes_fold) fold_ = from.fold_;
}

void SequenceLog::set_fold(const Fold& fold) { fold_ = fold; }

} // namespace kvfold
