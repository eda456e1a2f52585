#include "preload/part_outputs.h"

#include <algorithm>
#include <limits>

namespace kvfold::preload {

namespace {

constexpr int32_t kNoOutput = std::numeric_limits<int32_t>::max();

} // namespace

void PartOutputs::begin(std::span<const BatchEntry> entries) {
    *this = {};
    for (const BatchEntry& entry : entries)
        wanted_.push_back(entry.output);
}

void PartOutputs::reserve(size_t width) {
    width_ = width;
    rows_.reserve(wanted(0, wanted_.size()) * width);
}

size_t PartOutputs::wanted(size_t first, size_t count) const {
    const auto begin = wanted_.begin() + static_cast<std::ptrdiff_t>(first);
    return static_cast<size_t>(std::count(begin, begin + static_cast<std::ptrdiff_t>(count), true));
}

void PartOutputs::keep(size_t first, size_t count, const float* rows) {
    if (!rows) return;
    rows_.insert(rows_.end(), rows, rows + wanted(first, count) * width_);
    for (size_t i = first; i < first + count; ++i)
        if (wanted_[i]) kept_.push_back(i);
}

void PartOutputs::end(size_t first) { last_begins_ = first; }

float* PartOutputs::find(int32_t index) {
    if (kept_.empty()) return nullptr;
    int64_t row = -1;
    if (index < 0) {
        row = static_cast<int64_t>(wanted(0, wanted_.size())) + index;
    } else {
        const auto found = std::ranges::lower_bound(kept_, static_cast<size_t>(index));
        if (found != kept_.end() && *found == static_cast<size_t>(index)) row = found - kept_.begin();
    }
    return row < 0 || row >= std::ssize(kept_) ? nullptr : rows_.data() + static_cast<size_t>(row) * width_;
}

int32_t PartOutputs::index_in_last(int32_t index) const {
    const auto begin = static_cast<int32_t>(last_begins_);
    if (index >= 0 && index < begin) return kNoOutput; // llama.cpp would take what is negative from the end
    return index < 0 ? index : index - begin;
}

float* PartOutputs::all(const float* last) {
    if (kept_.empty()) return nullptr;
    if (last && kept_.back() < last_begins_) keep(last_begins_, wanted_.size() - last_begins_, last);
    return rows_.data();
}

} // namespace kvfold::preload
