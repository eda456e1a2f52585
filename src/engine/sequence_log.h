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
    uint32_t cells() const {
        return static_cast<uint32_t>(end() - (fold_.end - fold_.begin)) + fold_.cells - holes_;
    }
    const Fold& fold() const { return fold_; }
    const std::vector<llama_token>& tokens() const { return tokens_; } // LLAMA_TOKEN_NULL = unknown
    bool knows_all_tokens() const;

    // A token was decoded at `pos`; LLAMA_TOKEN_NULL when it came as an embedding.
    void set(llama_pos pos, llama_token token);

    // Whether removing positions [p0, p1) would tear the folded region; p < 0 is open, as in llama.cpp.
    bool tears_fold(llama_pos p0, llama_pos p1) const;

    // REQUIRES: !tears_fold(p0, p1).
    void remove(llama_pos p0, llama_pos p1);

    // Tokens of positions below p1 of another sequence. REQUIRES: !from.tears_fold(p1, -1) or all of it.
    void copy(const SequenceLog& from, llama_pos p0, llama_pos p1);

    void set_fold(const Fold& fold);

  private:
    std::vector<llama_token> tokens_;
    Fold fold_;
    uint32_t holes_ = 0; // positions outside the fold without a cell
};

} // namespace kvfold
