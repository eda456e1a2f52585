// Recall: what a prompt asks for is taken out of the archive, byte for byte, and stands beside the folded
// cells until another prompt chooses others.
//
//   ask -> recall -> swap
#pragma once

#include "engine/archive.h"
#include "solve/kernels.h"
#include "state/sequence_state.h"
#include "study/queries.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace kvfold {

// Cells that may be chosen: of what a fold replaced those that it did not keep as they were.
struct Recallable {
    const KvSection& originals;
    std::vector<uint32_t> cells;
    const KeyBlocks* blocks = nullptr; // of those cells; null: all of them are looked at
};
size_t count_cells(std::span<const Recallable> sources);

// Of what folds replaced. The folds must outlive it.
std::vector<Recallable> recallable(std::span<const std::shared_ptr<const ReplacedCells>> folds);

struct RecallProblem {
    const AttentionMap& map;
    std::span<const Recallable> sources; // of one sequence, by rising position
    const Study& asked;                  // the queries of the prompt
    size_t count = 0;                    // cells of each KV head that are wanted
    int threads = 1;
    const Kernels& kernels;
    // That are read for each cell that is wanted. With 2 of them, a quarter of 1024 tokens, a third of what
    // recall gives was lost. With 64 the archive is read whole up to 16384 tokens, where 8 cells are wanted.
    size_t blocks_per_cell = 64;
    const KeptKeys* kept = nullptr; // by the fold that stands for them; null: not known
};

// The cells that each KV head's queries look at most, any of them, and those close to them: cell i is put
// together of the i-th choice of every head, by rising position. `pos`: where all of them are said to stand.
// As many as there are, where more are wanted. Fails with `numeric`, and with `memory`. REQUIRES: a cell to
// choose.
Result<KvSection> recall(const RecallProblem& problem, int32_t pos);

// When an answer asks: after its tokens 1, 2, 4 and so on, and at last after every few. Answers to questions
// are short, and what they begin with decides (docs/experiments/2026-11-30-recall-paced.md).
class AskingPace {
  public:
    static constexpr size_t kEvery = 8; // tokens
    explicit AskingPace(size_t every = kEvery) : every_(every) {}

    // Whether the answer asks behind more tokens of it.
    bool is_due(size_t tokens) {
        unasked_ += tokens;
        return unasked_ >= std::clamp<size_t>(said_, 1, every_);
    }
    void asked() { said_ += std::exchange(unasked_, 0); }

  private:
    size_t every_;
    size_t said_ = 0;    // tokens up to the newest one that asked
    size_t unasked_ = 0; // those behind it
};

// What answers may take for asking: a share of the time that decoding them takes, all of a context's
// together, for each of them waits for all. On a device decoding is fast, and the scan of a long archive is
// not.
class AskingTime {
  public:
    static constexpr double kShare = 0.1;
    static constexpr double kAhead = 0.25; // seconds that may be spent before they are earned: answers begin
                                           // with what they ask

    // share: nothing sets no bound.
    explicit AskingTime(std::optional<double> share = kShare) : share_(share) {}

    bool is_left() const { return !share_ || left_s_ >= 0; }
    void decoded(double seconds) { left_s_ = std::min(kAhead, left_s_ + share_.value_or(0) * seconds); }
    void asked(double seconds) { left_s_ -= seconds; }

  private:
    std::optional<double> share_;
    double left_s_ = kAhead;
};

// Where recalled cells stand: in the gap in front of the fold, whose own position is the one before
// `fold_end`, and so far in front that no sliding window (n_swa; 0: there is none) reaches there. So they can
// be told from all other cells. Negative: there is no such position.
inline int32_t place_of_recalled(int32_t fold_end, int32_t n_swa) {
    return fold_end - 2 - std::max(0, n_swa);
}

// The sequence without its recalled cells, which are all that stands at `pos`; and with these in their place.
SequenceState without_recalled(const SequenceState& now, int32_t pos);
SequenceState with_recalled(const SequenceState& now, const KvSection& recalled, int32_t pos);

} // namespace kvfold
