#include "preload/saved_states.h"

#include "base/fingerprint.h"

namespace kvfold::preload {

namespace {

constexpr size_t kMostSaved = 256;

} // namespace

void SavedStates::remember(std::span<const uint8_t> bytes, KnownState known) {
    saved_.push_back({fingerprint(bytes), bytes.size(), std::move(known)});
    if (saved_.size() > kMostSaved) saved_.pop_front();
}

KnownState SavedStates::find(std::span<const uint8_t> bytes) const {
    const uint64_t wanted = fingerprint(bytes);
    for (auto saved = saved_.rbegin(); saved != saved_.rend(); ++saved) {
        if (saved->fingerprint == wanted && saved->size == bytes.size()) return saved->known;
    }
    return {};
}

} // namespace kvfold::preload
