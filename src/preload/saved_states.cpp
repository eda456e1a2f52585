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

void SavedStates::remember(std::span<const uint8_t> bytes, const SequenceLog& log) {
    saved_.push_back({fingerprint(bytes), bytes.size(), log});
    if (saved_.size() > kMostSaved) saved_.pop_front();
}

const SequenceLog* SavedStates::find(std::span<const uint8_t> bytes) const {
    const uint64_t wanted = fingerprint(bytes);
    for (auto saved = saved_.rbegin(); saved != saved_.rend(); ++saved) {
        if (saved->fingerprint == wanted && saved->size == bytes.size()) return &saved->log;
    }
    return nullptr;
}

std::vector<llama_token> tokens_of_file(std::span<const llama_token> written, size_t count) {
    constexpr size_t kServerHead = 3; // null token, version, count
    if (written.size() >= kServerHead && written[0] == LLAMA_TOKEN_NULL && written[2] >= 0) {
        const auto tokens = static_cast<size_t>(written[2]);
        if (written.size() < kServerHead + tokens) return {};
        written = written.subspan(kServerHead, tokens);
    }
    if (written.size() != count) return {};
    return {written.begin(), written.end()};
}

} // namespace kvfold::preload
