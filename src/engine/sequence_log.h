// What the library remembers of one sequence: its tokens by position, and which of them are folded.
// Plain bookkeeping: nothing here calls llama.cpp.
#pragma once

#include <llama.h>

#include <cstdint>
#include <span>
#include <vector>

namespace kvfold {

class SequenceLog {
  public:
    // Positions [begin, end) are held by `cells` cells instead of end - begin. Empty when begin == end.
    struct Fold {
        llama_pos begin = 0, end = 0;
        uint32_t cells = 0;
        bool empty() const { return begin == end; }
    };

    // The log of a sequence whose cells stand at `positions` (rising): missing positions in it are a folded
    // region, from the first gap to the last. tokens: one a position, or none when they are unknown.
    static SequenceLog from_positions(std::span<const llama_pos> positions, std::vector<llama_token> tokens);

    llama_pos end() const { return static_cast<llama_pos>(tokens_.size()); } // position after the last
    bool empty() const { return tokens_.empty(); }
    uint32_t cells() const; // counted: as many steps as positions
    const Fold& fold() const { return fold_; }
    const std::vector<llama_token>& tokens() const { return tokens_; } // LLAMA_TOKEN_NULL = unknown
    bool knows_all_tokens() const;

    // A token was decoded at `pos`, into a cell of its own; LLAMA_TOKEN_NULL when it came as an embedding.
    // The cells of an image share a position where a position has several parts.
    void set(llama_pos pos, llama_token token);

    // Whether positions [p0, p1) cut into the folded region: which of its cells stand there is not known
    // here. p < 0 is open, as in llama.cpp.
    bool tears_fold(llama_pos p0, llama_pos p1) const;

    // The end becomes the position after the last cell that is left. REQUIRES: !tears_fold(p0, p1).
    void remove(llama_pos p0, llama_pos p1);

    // Positions [p0, p1) of another sequence come beside those that are here, as llama.cpp copies cells by
    // position. A fold that [p0, p1) cuts into comes too, with its positions there and all of its cells.
    // False: there may be fewer cells than are counted now, never more, because a fold was cut, or because
    // both sequences had cells at a position, which may be the same cells. from_positions then says how many.
    bool copy(const SequenceLog& from, llama_pos p0, llama_pos p1);

    // What stands from fold.begin to fold.end is fold.cells now. An older fold that stands out of it joins
    // it, with all of its cells. REQUIRES: fold.end <= end().
    void set_fold(const Fold& fold);

  private:
    void trim(); // positions behind the last cell

    std::vector<llama_token> tokens_;
    std::vector<uint32_t> cells_; // at each position; 0 inside the fold, which counts its own
    Fold fold_;
};

} // namespace kvfold
