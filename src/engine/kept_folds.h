// Folds of sequences that nobody keeps books of. Each is found again by the cells that it made: so the
// archive of one sequence never serves another, wherever a sequence has been meanwhile.
#pragma once

#include "engine/archive.h"

#include <map>

namespace kvfold {

// Of the cells before position `end`, their positions and their bytes, in whatever order.
uint64_t fold_fingerprint(const KvSection& section, int32_t end);

// What a fold is found by in a sequence that holds `section`. A fold that made no cell left the first ones of
// its text alone, which other texts may begin with too: then the first cell behind it belongs to it.
struct FoldMarks {
    uint64_t made = 0, left = 0; // of a fold that made cells, and of one that made none
    uint64_t of(bool made_cells) const { return made_cells ? made : left; }
    bool has(uint64_t mark) const { return mark == made || mark == left; }
};
FoldMarks fold_marks(const KvSection& section, int32_t end);
FoldMarks marks_before(const ReplacedCells& cells); // of the fold in front of that one
inline uint64_t fold_mark(const KvSection& section, int32_t end, bool made_cells) {
    return fold_marks(section, end).of(made_cells);
}

// What a fold from a sequence's start replaced, told from the section before and after it; null: nothing.
// map: as of `archived`. kept: by the heads, where that is known.
std::shared_ptr<ArchivedFold> replaced_between(const KvSection& before, const KvSection& after,
                                               const AttentionMap* map = nullptr, KeptKeys kept = {});

// Not thread-safe.
class KeptFolds {
  public:
    explicit KeptFolds(size_t budget) : archive_(budget) {} // bytes, as of an Archive

    // mark: of the cells that stand in the place of those that it holds.
    void add(uint64_t mark, std::shared_ptr<ArchivedFold> fold);

    // Of a sequence that holds this: its folds as far back as they are here.
    FoldHistory history(const KvSection& section) const;

    size_t bytes() const { return archive_.bytes(); }
    size_t budget() const { return archive_.budget(); }

  private:
    Archive archive_;
    std::map<uint64_t, std::shared_ptr<ArchivedFold>> folds_; // by their marks
};

// The sequence without its newest folds: as many of them as are kept and have room in `cells` cells. Fails
// with invalid_argument where nothing is folded or not even the newest has room, and with not_found where
// none is kept.
Result<SequenceState> unfolded(const SequenceState& now, const KeptFolds& kept, size_t cells);

} // namespace kvfold
