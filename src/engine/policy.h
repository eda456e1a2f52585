// When a sequence is folded, and how far.
#pragma once

#include "engine/books.h"
#include "fit/regions.h"
#include "method/method.h"

#include <algorithm>
#include <optional>

namespace kvfold {

struct Policy {
    bool automatic = false; // fold by itself at the high-water mark and when cells run out
    double ratio = 8;       // cells before / cells after of what is folded; >= 1
    const Method* method = &default_method();
    SolveOn solve_on = SolveOn::automatic;
    double high_water = 0.75; // share of the cells in use that starts a fold; between 0 and 1
    int keep_first = 4;       // cells of the head that are never folded; >= 1
    int keep_last = -1;       // newest cells kept as they are; -1 = an eighth of the cells, at most 256
};

// Fails with invalid_argument, in the words of base/limits.h.
Status check(const Policy& policy);

// Whether a context of `cells` cells can ever be folded by the policy: a full one. Fails with
// invalid_argument, saying what would fit.
Status check_room(const Policy& policy, size_t cells);

// Cells that are folded together, whatever the cache holds, as far as their originals are kept: chunks and
// folds of fewer are each studied by themselves, and each gets its share of the cells whatever it holds. In a
// conversation in 256 cells, pieces of 100 lost what was told at its start, and one fold of all of them did
// not (docs/experiments/2026-11-30-drift.md).
inline constexpr size_t kFoldedTogether = 2048;

// Cells that are folded at once at most, or the cells of the context where those are more: all of a long
// conversation, when it is folded anew. In chunks of 2048 two of eighteen rounds lost much
// (docs/experiments/2026-12-01-one-fold-of-all.md). Where somebody waits for a fold they are kFoldedTogether.
inline constexpr size_t kFoldedAtOnce = 8192;

// CompactRequest::most_cells of a sequence that may have so many cells: the originals of what was folded may
// be many times as many.
inline size_t folded_at_once(size_t cells, bool is_awaited) {
    return std::max(cells, is_awaited ? kFoldedTogether : kFoldedAtOnce);
}

struct FoldPlan {
    Budget budget;
    // To fold what was folded before together with the rest, from its originals, to as many cells.
    std::optional<Budget> together;
    size_t cells_before = 0, cells_after = 0; // of the part
    size_t gain() const { return cells_before - cells_after; }
};

// What to fold of a part that may use `cells` cells; nothing when it would not gain enough to pay.
// Cells that were folded once stay as they are, and only newer ones are folded, so that a text is not worn
// down by every fold; only when the folded part itself fills most of the room is all of it folded again.
// Where their originals are kept nothing is worn, and up to kFoldedTogether cells are folded anew with the
// newer ones. What the program may change stays as it is where enough is gained all the same: an answer that
// is asked for once more is cut off at its beginning, and a cut inside a fold reads everything again. urgent:
// cells have run out, so small gains count too.
std::optional<FoldPlan> plan_fold(const Foldable& part, const Policy& policy, size_t cells, bool urgent);

// Newest cells kept as they are, of a sequence that may use `cells` cells.
size_t newest_kept(const Policy& policy, size_t cells);

// The budget for folding all of a part at a ratio that somebody asked for.
Budget whole_budget(const Foldable& part, const Policy& policy, double ratio);

} // namespace kvfold
