// What folds took out of the cache, byte for byte, in host memory: a cut inside a fold takes it back.
#pragma once

#include "state/sequence_state.h"

#include <deque>
#include <memory>
#include <optional>
#include <vector>

namespace kvfold {

// The cells of a sequence that one fold replaced.
//
//   [ untouched, still there | folded before | originals: positions [begin, end) ]
struct ReplacedCells {
    int32_t begin = 0, end = 0;
    int32_t untouched_end = 0; // the position behind the cells in front that stayed; 0: there are none
    KvSection folded;          // what stood for the positions before `begin`: cells of earlier folds
    KvSection originals;       // by rising position
};

// Of a section whose cells up to position `last`, but for the first `untouched`, are folded; those before
// `begin` were folded already.
ReplacedCells replaced_cells(const KvSection& section, size_t untouched, int32_t begin, int32_t last);

// The sequence as it would be had it been cut at `end` before the fold, or, where end is cells.end, as it
// would be without the fold. REQUIRES: cells.begin <= end <= cells.end.
SequenceState taken_back(const SequenceState& now, const ReplacedCells& cells, int32_t end);

// A fold that can be taken back, as long as the archive has room for its cells.
class ArchivedFold {
  public:
    explicit ArchivedFold(ReplacedCells cells);
    const ReplacedCells* cells() const { return cells_ ? &*cells_ : nullptr; } // null: no longer there
    int32_t begin() const { return begin_; }
    int32_t end() const { return end_; }
    size_t bytes() const { return cells_ ? bytes_ : 0; }

  private:
    friend class Archive;
    std::optional<ReplacedCells> cells_;
    int32_t begin_, end_;
    size_t bytes_;
};

// The folds of a sequence that can be taken back, by rising positions. Sequences that share a fold share its
// entry.
using FoldHistory = std::vector<std::shared_ptr<const ArchivedFold>>;

// The fold that holds position `end`, if its cells are there; else null.
const ReplacedCells* fold_at(const FoldHistory& history, int32_t end);

// The smallest position at which a sequence can be cut that is folded up to fold_end, and everything before
// it comes back.
int32_t first_cut(const FoldHistory& history, int32_t fold_end);

// What the folds from there on replaced, as if one had. Nothing when first_cut is fold_end.
std::optional<ReplacedCells> all_replaced(const FoldHistory& history, int32_t fold_end);

// Holds the cells of the newest folds that a budget has room for, as long as somebody has their history.
// Not thread-safe.
class Archive {
  public:
    explicit Archive(size_t budget) : budget_(budget) {} // bytes; 0: nothing is kept

    // The oldest folds lose their cells to the new one. Null: it has no room, however empty the archive is,
    // or no original cells.
    std::shared_ptr<const ArchivedFold> keep(ReplacedCells cells);

    size_t budget() const { return budget_; }
    size_t bytes() const;

  private:
    void make_room(size_t bytes);
    size_t budget_;
    std::deque<std::weak_ptr<ArchivedFold>> folds_; // oldest first
};

} // namespace kvfold
