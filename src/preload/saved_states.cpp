#include "preload/saved_states.h"

#include <cstring>

namespace kvfold::preload {

namespace {

constexpr size_t kMostSaved = 256;

// FNV-1a over words instead of bytes: a state is tens of megabytes, and only equality matters.
uint64_t fingerprint(std::span<const uint8_t> bytes) {
    uint64_t hash = 0xcbf29ce484222325;
    size_t at = 0;
    for (; at + sizeof(uint64_t) <= bytes.size(); at += sizeof(uint64_t)) {
        uint64_t word;
        std::memcpy(&word, bytes.data() + at, sizeof word);
        hash = (hash ^ word) * 0x100000001b3;
        hash ^= hash >> 32; // high bits of a word must reach low ones
    }
    for (; at < bytes.size(); ++at)
        hash = (hash ^ bytes[at]) * 0x100000001b3;
    return hash;
}

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
