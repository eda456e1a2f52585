// What kvfold remembers of a context's cache: which cells there are, where they stand, which sequences own
// them, and the tokens of each sequence. Plain bookkeeping: nothing here calls llama.cpp or takes a lock.
#pragma once

#include "engine/archive.h"

#include <llama.h>

#include <bitset>
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <vector>

namespace kvfold {

// Some cells of a sequence, all owned by the same sequences, that can be folded: the first ones, or those
// behind a beginning that others own too.
//
//   [untouched | foldable: the first `folded` are folded already | behind]
struct Foldable {
    llama_seq_id seq_id = 0;
    size_t untouched = 0, cells = 0, folded = 0, behind = 0;
    bool is_shared = false; // some cell of the sequence has other owners too
    // Newest cells of the sequence, which the program may soon change: what the model has written last.
    size_t changing = 0;
    // What the folded ones were before, where all of it is kept: as many positions; else 0.
    size_t originals = 0;
    size_t all() const { return untouched + cells + behind; }
};

class Books {
  public:
    static constexpr size_t kMostSequences = 256; // of llama.cpp; sequences behind them are not kept

    // Positions [0, end) of a sequence are held by `cells` cells. Empty when end == 0.
    struct Fold {
        llama_pos end = 0;
        size_t cells = 0;
        bool empty() const { return end == 0; }
    };

    // streams: 1 where all sequences share the cells (a unified cache), else as many as sequences.
    explicit Books(size_t streams = 1) : streams_(streams) {}

    // A token was decoded at `pos` into a cell of its own that `owners` share; LLAMA_TOKEN_NULL when it came
    // as an embedding. pos < 0: behind each owner's last. is_answer: the model wrote it.
    void decode(llama_pos pos, llama_token token, std::span<const llama_seq_id> owners,
                bool is_answer = false);

    // As the functions llama_memory_* do it. p < 0 is open; seq_id < 0 is every sequence. Between streams the
    // whole sequence is copied.
    void remove(llama_seq_id seq_id, llama_pos p0, llama_pos p1);
    void copy(llama_seq_id from, llama_seq_id to, llama_pos p0, llama_pos p1);
    void keep(llama_seq_id seq_id);
    void add(llama_seq_id seq_id, llama_pos p0, llama_pos p1, llama_pos delta);
    void divide(llama_seq_id seq_id, llama_pos p0, llama_pos p1, int divisor);
    void clear();

    // The sequence holds cells of its own at `positions` (rising) and nothing else, as a state says. Those at
    // the last position before fold_end are folded; 0: none. tokens: one a position, or none when they are
    // unknown. What the model has written and stands there again is still its answer.
    void learn(llama_seq_id seq_id, std::span<const llama_pos> positions, llama_pos fold_end,
               std::vector<llama_token> tokens);

    // Of the sequence's cells up to position `last`, all but the first `untouched` became `cells` cells at
    // `last`. replaced: what they were, where that is kept. REQUIRES: the same owners for all of them, as of
    // a Foldable.
    void fold(llama_seq_id seq_id, llama_pos last, size_t untouched, size_t cells,
              std::shared_ptr<const ArchivedFold> replaced = nullptr);

    // Recalled cells (engine/recall.h) of the sequence's own stand at `pos`, or go. They are no part of what
    // can be folded or shared. REQUIRES: the position lies in a fold, where no cell of the sequence stands.
    void recall(llama_seq_id seq_id, llama_pos pos, size_t cells);
    void drop_recalled(llama_seq_id seq_id);

    std::vector<llama_seq_id> sequences() const; // those that hold cells
    bool holds(llama_seq_id seq_id) const { return sequences_.contains(seq_id); }
    llama_pos end(llama_seq_id seq_id) const; // position after the last
    size_t cells(llama_seq_id seq_id) const;
    Fold fold_of(llama_seq_id seq_id) const { return fold_of(seq_id, std::numeric_limits<llama_pos>::max()); }
    Fold fold_of(llama_seq_id seq_id, llama_pos last) const; // of the cells up to a position
    struct Recalled {
        llama_pos pos = -1;
        size_t cells = 0, own = 0; // of which no other sequence has
    };
    Recalled recalled(llama_seq_id seq_id) const;
    bool stands_at(llama_seq_id seq_id, llama_pos pos) const;          // a cell that is not recalled
    const std::vector<llama_token>& tokens(llama_seq_id seq_id) const; // [end], LLAMA_TOKEN_NULL = unknown
    bool knows_all_tokens(llama_seq_id seq_id) const;
    bool ends_with_answer(llama_seq_id seq_id) const; // the model wrote its newest token
    // Folds that can be taken back. They go where cells that they stand for go or move.
    const FoldHistory& history(llama_seq_id seq_id) const;
    void set_history(llama_seq_id seq_id, FoldHistory history);
    size_t used() const;              // of all streams
    size_t used(size_t stream) const; // cells; one that several sequences own counts once
    size_t stream_of(llama_seq_id seq_id) const {
        return streams_.size() == 1 ? 0 : static_cast<size_t>(seq_id);
    }
    size_t streams() const { return streams_.size(); }

    // Whether a removal of positions [p0, p1) takes some of what a fold holds and leaves some. p < 0 is open.
    bool tears_fold(llama_seq_id seq_id, llama_pos p0, llama_pos p1) const;

    // What can be folded at once of a stream: of each sequence what it alone owns, and each beginning that
    // several share once, under the first of them.
    std::vector<Foldable> foldable(size_t stream) const;
    std::vector<Foldable>
    foldable_of(llama_seq_id seq_id) const; // its beginning, whoever shares it, and its own

    // Whether all of the sequence's cells up to position `last`, but for the first `untouched`, have the same
    // owners.
    bool has_same_owners(llama_seq_id seq_id, llama_pos last, size_t untouched) const;

    // Positions [p0, p1) at which another sequence owns all cells that this one has, and no others.
    struct Shared {
        llama_seq_id seq_id;
        llama_pos p0, p1;
    };
    std::vector<Shared> shared(llama_seq_id seq_id) const;

    // Whether these ranges hold all that others share of the sequence. Not so where cells that several own
    // were moved under some of them: then one stands where another has a cell of its own.
    bool shares_by_position(llama_seq_id seq_id) const;

  private:
    using Owners = std::bitset<kMostSequences>;
    struct Cell {
        llama_pos pos;
        Owners owners;
        bool is_folded; // stands for more than its position
        bool is_answer = false;
        bool is_recalled = false;
    };
    struct Sequence {
        std::vector<llama_token> tokens; // [end]
        size_t cells = 0;
        FoldHistory history = {};
    };
    static bool is_kept(llama_seq_id seq_id) { return seq_id >= 0 && size_t(seq_id) < kMostSequences; }
    std::vector<Cell>& cells_with(llama_seq_id seq_id) { return streams_[stream_of(seq_id)]; }
    std::vector<const Cell*> cells_of(llama_seq_id seq_id) const; // by rising position, but for recalled ones
    std::vector<Foldable> parts_of(llama_seq_id seq_id,
                                   std::span<const Cell* const> cells) const; // its cells, sorted
    void set_token(llama_seq_id seq_id, llama_pos pos, llama_token token);
    // At each position, of two sequences: cells that both own, and cells that one of them owns alone.
    std::map<llama_pos, std::pair<size_t, size_t>> compared(llama_seq_id one, llama_seq_id other) const;
    bool is_first_owner(llama_seq_id seq_id, const Owners& owners) const;
    void recount(); // after cells went or moved: their number, and the end, of every sequence

    std::vector<std::vector<Cell>> streams_;
    std::map<llama_seq_id, Sequence> sequences_;
};

} // namespace kvfold
