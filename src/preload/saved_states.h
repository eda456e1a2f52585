// Which tokens a saved state holds: programs keep states in memory of their own and put them back later.
#pragma once

#include <llama.h>

#include <deque>
#include <span>
#include <vector>

namespace kvfold::preload {

// Remembers the tokens of the newest 256 saved states by a fingerprint of their bytes.
class SavedStates {
  public:
    void remember(std::span<const uint8_t> bytes, std::vector<llama_token> tokens); // one a position
    std::vector<llama_token> find(std::span<const uint8_t> bytes) const;            // none: not ours

  private:
    struct Saved {
        uint64_t fingerprint;
        size_t size;
        std::vector<llama_token> tokens;
    };
    std::deque<Saved> saved_;
};

} // namespace kvfold::preload
