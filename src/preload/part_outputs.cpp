#include "preload/part_outputs.h"

#include <algorithm>
#include <limits>

namespace kvfold::preload {

namespace {

constexpr int32_t kNoOutput = std::numeric_limits<int32_t>::max();

} // namespace

void PartOutputs::begin(std::span<const BatchEntry> entries, size_t width) {
    *this = {};
    width_ = width;
    for (const BatchEntry& entry : entries)
        wanted_.push_back(entry.output);
}

void PartOutputs::keep(size_t first, size_t count, const float* rows) {
    const size_t before = kept_.size();
    for (size_t i = first; i < first + count; ++i)
        if (wanted_[i]) kept_.push_back(i);
    if (rows) rows_.insert(rows_.end(), rows, rows + (kept_.size() - before) * width_);
}

void PartOutputs::end(size_t first) {
    last_begins_ = first;
    last_outputs_ = static_cast<size_t>(
        std::count(wanted_.begin() + static_cast<std::ptrdiff_t>(first), wanted_.end(), true));
}

float* PartOutputs::find(int32_t index) {
    const auto kept = static_cast<int64_t>(kept_.size());
    int64_t row = -1;
    if (index < 0)
        row = kept + static_cast<int64_t>(last_outputs_) + index;
    else if (const auto found = std::ranges::find(kept_, static_cast<size_t>(index)); found != kept_.end())
        row = found - kept_.begin();
    return row < 0 || row >= kept ? nullptr : rows_.data() + static_cast<size_t>(row) * width_;
}

int32_t PartOutputs::index_in_last(int32_t index) const {
    const auto begin = static_cast<int32_t>(last_begins_);
    if (index >= 0 && index < begin) return kNoOutput; // llama.cpp would take what is negative from the end
    return index < 0 ? index : index - begin;
}

float* PartOutputs::all(const float* last) {
    if (kept_.empty()) return nullptr;
    all_ = rows_;
    if (last) all_.insert(all_.end(), last, last + last_outputs_ * width_);
    return all_.data();
}

} // namespace kvfold::preload
