#include "state/checkpoints.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace kvfold {

namespace {

constexpr std::array<uint8_t, 8> kBegin = {'S', 'C', 'K', 'P', 1, 0, 0, 0};
constexpr size_t kPositionBytes = sizeof(int64_t) + 2 * sizeof(int32_t);
constexpr int kParts = 3; // of the target, of the draft, of the speculation

// Takes a number from the front; false: there are too few bytes.
template <class Number> bool take(std::span<const uint8_t>& bytes, Number& number) {
    if (bytes.size() < sizeof(number)) return false;
    std::memcpy(&number, bytes.data(), sizeof(number));
    bytes = bytes.subspan(sizeof(number));
    return true;
}

bool skip(std::span<const uint8_t>& bytes, uint64_t count) {
    if (bytes.size() < count) return false;
    bytes = bytes.subspan(count);
    return true;
}

// Whether that many checkpoints, and nothing else, are left.
bool are_checkpoints(std::span<const uint8_t> bytes) {
    uint32_t count = 0;
    if (!skip(bytes, kBegin.size()) || !take(bytes, count)) return false;
    for (; count > 0; --count) {
        if (!skip(bytes, kPositionBytes)) return false;
        for (int part = 0; part < kParts; ++part) {
            uint64_t size = 0;
            if (!take(bytes, size) || !skip(bytes, size)) return false;
        }
    }
    return bytes.empty();
}

} // namespace

// A state has no end of its own, and its last section may be of several kinds. So what follows is looked for
// by how it begins, and must reach to the last byte.
std::span<const uint8_t> without_checkpoints(std::span<const uint8_t> slot) {
    for (auto at = slot.begin();; ++at) {
        at = std::search(at, slot.end(), kBegin.begin(), kBegin.end());
        if (at == slot.end()) return slot;
        if (are_checkpoints({at, slot.end()})) return {slot.begin(), at};
    }
}

} // namespace kvfold
