// Which tokens a saved state holds: programs keep states in memory of their own and put them back later.
#pragma once

#include "engine/sequence_log.h"

#include <deque>
#include <span>

namespace kvfold::preload {

// Remembers the logs of the newest 256 saved states by a fingerprint of their bytes.
class SavedStates {
  public:
    void remember(std::span<const uint8_t> bytes, const SequenceLog& log);
    const SequenceLog* find(std::span<const uint8_t> bytes) const; // null: not ours

  private:
    struct Saved {
        uint64_t fingerprint;
        size_t size;
        SequenceLog log;
    };
    std::deque<Saved> saved_;
};

// The tokens that a program wrote in front of a state file: plain ones, or llama-server's form, which begins
// with a null token, a version and a count. Empty when they are neither, or not `count` in number.
std::vector<llama_token> tokens_of_file(std::span<const llama_token> written, size_t count);

} // namespace kvfold::preload
