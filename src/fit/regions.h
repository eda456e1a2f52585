// Which cells of a sequence stay as they are, which are folded, and where the folded ones stand.
//
//   [head: kept verbatim | region: T cells -> t cells | tail: kept verbatim]
//
// Cells of embeddings that were given instead of tokens (images, audio) stay verbatim wherever they stand.
#pragma once

#include "base/result.h"
#include "state/sequence_state.h"

#include <optional>

namespace kvfold {

// What becomes of the cells between head and tail.
enum class Keep : uint8_t {
    fit,    // the region is folded: studied and solved
    newest, // baseline: drop all but the first few and the newest cells
    oldest, // baseline: drop all but the first cells and the newest one
    random, // baseline: as newest, but most cells drawn by lot, the same in all heads
};

struct Budget {
    double ratio = 8;   // cells before / cells after over the whole sequence, head and tail included; >= 1
    int keep_first = 4; // cells of the head, attention sinks and what the caller pins; >= 1
    int keep_last = -1; // cells of the tail; -1 = 32, or an eighth of what is left when that is less
    int untouched = 0;  // of keep_first: keep their positions too, for other sequences own them
};

// Fails with invalid_argument, in the words of base/limits.h.
Status check(const Budget& budget);

// The budget that makes exactly `after` cells of `before`. What is new of a sequence is folded with a head
// that holds the cells of earlier folds too: folding them again would wear them down.
Budget exact_budget(size_t before, size_t after, size_t keep_first, size_t keep_last);

struct Regions {
    std::vector<uint32_t> head, region, tail; // indices into the section's cells, by rising position
    size_t untouched = 0;                     // of the head: keep their positions
    uint32_t folded = 0;                      // t: cells that the region becomes; 0 = dropped
    std::vector<uint32_t> pinned; // amid the region, kept verbatim: images, and what Keep::random draws
    // The last cell that is folded or dropped; none when all cells stay.
    std::optional<uint32_t> last_cell() const {
        return region.empty() ? std::nullopt : std::optional(region.back());
    }
    size_t cells_before() const { return head.size() + pinned.size() + region.size() + tail.size(); }
    size_t cells_after() const { return head.size() + pinned.size() + folded + tail.size(); }
};

// seed: of Keep::random alone. Fails with invalid_argument when the ratio leaves no room for what is to be
// kept, saying what would fit.
Result<Regions> plan_regions(const KvSection& section, const Budget& budget, Keep keep, uint64_t seed = 1);

} // namespace kvfold
