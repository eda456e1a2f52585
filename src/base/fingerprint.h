// Tells byte sequences apart that nobody has made to look alike.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

namespace kvfold {

// FNV-1a over words instead of bytes: a state is tens of megabytes, and only equality matters. before: of
// what stands in front; in pieces of whole words a sequence has the fingerprint that it has as one.
inline uint64_t fingerprint(std::span<const uint8_t> bytes, uint64_t before = 0xcbf29ce484222325) {
    constexpr uint64_t kPrime = 0x100000001b3;
    uint64_t hash = before;
    size_t at = 0;
    for (; at + sizeof(uint64_t) <= bytes.size(); at += sizeof(uint64_t)) {
        uint64_t word;
        std::memcpy(&word, bytes.data() + at, sizeof word);
        hash = (hash ^ word) * kPrime;
        hash ^= hash >> 32; // high bits of a word must reach low ones
    }
    for (; at < bytes.size(); ++at)
        hash = (hash ^ bytes[at]) * kPrime;
    return hash;
}

} // namespace kvfold
