// One fold of a sequence that may go on meanwhile: what it works on, and how its result comes back into a
// sequence that went on.
#pragma once

#include "engine/books.h"
#include "engine/request.h"

namespace kvfold {

struct FoldTask {
    llama_seq_id seq_id = 0;
    SequenceState snapshot; // where earlier folds are folded anew: with the cells that they replaced
    std::vector<llama_token>
        tokens; // of all positions, none when some are unknown; request.tokens looks at them
    CompactRequest request;
    size_t untouched = 0;     // cells in front that stay where they are
    llama_pos last = 0;       // newest position that changes; cells behind it may go on
    size_t cells = 0;         // of the sequence up to there
    llama_pos folded_end = 0; // position behind what of them was folded before
    KvSection folded;         // that, as it is in the sequence
    KeptKeys kept;            // by it, where it stays as it is and that is known
    size_t region_size = 0;   // cells
};

// Reads the sequence and plans. Where the plan takes cells of earlier folds and the books have what these
// replaced, that is folded in their place, to the same number of cells, and no cell is folded twice;
// request.together is such a plan, taken before request.budget where it can be. Sets request.most_cells.
// Fails as read_sequence and plan_regions do.
Result<std::unique_ptr<FoldTask>> prepare_fold(llama_context* ctx, llama_seq_id seq_id,
                                               CompactRequest request, const Books& books);

// The cells that the fold, which made `compact`, will replace; null where none of them is an original, and
// where cells in front stay: a fold that leans on them could not be taken back for itself. Touches no
// context. map: where they are to be recalled; null: nowhere.
std::shared_ptr<ArchivedFold> archived_fold(const FoldTask& task, const CompactState& compact,
                                            const AttentionMap* map = nullptr);

// Puts the folded cells into the sequence as it is now, with all its cells behind the region, and notes it in
// the books, with what they replaced where that is kept. What other sequences share of it they share
// afterwards too. REQUIRES: cells up to task.last as they were in the snapshot, with the same owners; a model
// of plain attention where cells are shared. On failure the sequences are what they were, but for `lost`:
// then they are empty, and the books know it.
Status put_in_place(llama_context* ctx, const FoldTask& task, const SequenceState& compact, Books& books,
                    std::shared_ptr<const ArchivedFold> replaced = nullptr);

} // namespace kvfold
