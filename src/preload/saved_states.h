// What a saved state holds: programs keep states in memory of their own and put them back later.
#pragma once

#include "engine/archive.h"

#include <llama.h>

#include <deque>
#include <span>
#include <vector>

namespace kvfold::preload {

// What the bytes of a state do not tell.
struct KnownState {
    std::vector<llama_token> tokens; // one a position; none: not known
    FoldHistory history;             // folds that can be taken back
};

// Remembers the newest 256 saved states by a fingerprint of their bytes.
class SavedStates {
  public:
    void remember(std::span<const uint8_t> bytes, KnownState known);
    KnownState find(std::span<const uint8_t> bytes) const; // nothing: not ours

  private:
    struct Saved {
        uint64_t fingerprint;
        size_t size;
        KnownState known;
    };
    std::deque<Saved> saved_;
};

} // namespace kvfold::preload
