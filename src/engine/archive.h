// What folds took out of the cache, byte for byte, in host memory: a cut inside a fold puts it back, and a
// fold of a fold is made of it.
#pragma once

#include "engine/kept_keys.h"
#include "engine/key_blocks.h"
#include "state/sequence_state.h"

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace kvfold {

// The cells of a sequence that one fold replaced, all that it had up to position end - 1:
//
//   [ folded before | originals: positions [begin, end) ]
struct ReplacedCells {
    int32_t begin = 0, end = 0;
    KvSection folded;                // what stood for the positions before `begin`: cells of earlier folds
    KvSection originals;             // by rising position
    std::vector<uint32_t> kept = {}; // of the originals, rising: those that the fold kept as they were
    std::optional<KeyBlocks> blocks = {}; // of the others, for recall (engine/recall.h)
    KeptKeys kept_keys = {};              // by the fold, of all positions before `end`
    bool made_cells = true;               // the fold; else what stands for them stood there before
};

// Of the originals, those that a fold did not keep.
std::vector<uint32_t> replaced_originals(const ReplacedCells& cells);
inline size_t count_replaced(const ReplacedCells& cells) {
    return cells.originals.cells.size() - cells.kept.size();
}

// Of a section whose cells up to position `last` are folded; those before `begin` were folded already.
ReplacedCells replaced_cells(const KvSection& section, int32_t begin, int32_t last);

// The sequence as if it had been cut at `end` before the fold. Other sections stay as they are. REQUIRES:
// cells.begin <= end <= cells.end.
SequenceState cut_back(const SequenceState& now, const ReplacedCells& cells, int32_t end);

// The sequence as if there were no fold: with what stands behind it now.
SequenceState unfolded(const SequenceState& now, const ReplacedCells& cells);

// As if one fold had replaced all of it. REQUIRES: at least one; each begins where the one before it ends.
ReplacedCells as_one(std::span<const std::shared_ptr<const ReplacedCells>> folds);

// The newest of a sequence's folds that can be undone together: so that it takes no more than `cells` cells,
// with the `behind` cells that stand behind its folds.
std::span<const std::shared_ptr<const ReplacedCells>>
newest_that_fit(std::span<const std::shared_ptr<const ReplacedCells>> folds, size_t behind, size_t cells);

// A fold that can be taken back, as long as the archive has room for its cells.
class ArchivedFold {
  public:
    explicit ArchivedFold(std::shared_ptr<const ReplacedCells> cells); // not null
    explicit ArchivedFold(ReplacedCells cells)
        : ArchivedFold(std::make_shared<const ReplacedCells>(std::move(cells))) {}
    // Null: no longer there. Whoever holds them keeps them.
    const std::shared_ptr<const ReplacedCells>& cells() const { return cells_; }
    int32_t begin() const { return begin_; }
    int32_t end() const { return end_; }
    size_t bytes() const { return cells_ ? bytes_ : 0; }

  private:
    friend class Archive;
    std::shared_ptr<const ReplacedCells> cells_;
    int32_t begin_, end_;
    size_t bytes_;
};

// The entry of a fold. made: what it made of the cells; those that stand in there as they were, wherever that
// is, it kept. map: where what it replaced may be recalled.
std::shared_ptr<ArchivedFold> archived(ReplacedCells cells, const KvSection& made, const AttentionMap* map);

// The folds of a sequence that can be taken back, none of which leaned on cells in front of it. Sequences
// that share a fold share its entry.
class FoldHistory {
  public:
    void add(std::shared_ptr<const ArchivedFold> fold); // the newest; null: nothing is added
    void cut(int32_t end);                              // folds that end behind it go

    // Of the fold that holds position `end`; null: not there.
    std::shared_ptr<const ReplacedCells> at(int32_t end) const;
    // The smallest position at which a sequence can be cut that is folded up to fold_end, and everything
    // before it comes back.
    int32_t first_cut(int32_t fold_end) const;
    // What the folds from there on replaced: fold by fold, and as if one had. Nothing when that is fold_end.
    std::vector<std::shared_ptr<const ReplacedCells>> each(int32_t fold_end) const;
    std::optional<ReplacedCells> all(int32_t fold_end) const;

  private:
    std::vector<std::shared_ptr<const ArchivedFold>> folds_; // by rising positions, which do not overlap
};

// Holds the cells of the newest folds that a budget has room for, as long as somebody has their history.
// Not thread-safe.
class Archive {
  public:
    explicit Archive(size_t budget) : budget_(budget) {} // bytes; 0: nothing is kept

    // The oldest folds lose their cells to the new one; so does the new one where it has no room, however
    // empty the archive is. Null is nothing.
    void admit(const std::shared_ptr<ArchivedFold>& fold);

    size_t budget() const { return budget_; }
    size_t bytes() const;

  private:
    size_t budget_;
    std::deque<std::weak_ptr<ArchivedFold>> folds_; // oldest first
};

} // namespace kvfold
