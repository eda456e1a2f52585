// How far back a program changes what a sequence holds: a turn that is edited, thoughts that are left out of
// the history, a note that moves along some turns before the end. What it will change is better not folded.
#pragma once

#include <llama.h>

#include <deque>
#include <map>
#include <span>
#include <vector>

namespace kvfold::preload {

class Edits {
  public:
    // The program removes the positions from `pos` on; tokens: of the sequence until now. pos 0 may be the
    // start of another text, or of this one with a change: what is decoded next tells.
    void cut(llama_seq_id seq_id, llama_pos pos, std::span<const llama_token> tokens);
    // is_answer: the model wrote it. What is read behind an answer is the next request.
    void decode(llama_seq_id seq_id, llama_pos pos, llama_token token, bool is_answer);
    // Newest tokens of the sequence that one of its latest requests changed. 0: none.
    size_t reach(llama_seq_id seq_id) const;

  private:
    struct Sequence {
        std::deque<size_t> depths = {0}; // of the latest requests' deepest cuts
        bool answers = false;
        std::vector<llama_token> former; // that it held before it was emptied
        size_t same = 0;                 // of them, those that were decoded again
    };
    static void note(Sequence& sequence, size_t same, size_t before);
    std::map<llama_seq_id, Sequence> sequences_;
};

} // namespace kvfold::preload
