// One turn of a conversation as text that a model reads.
#pragma once

#include <llama.h>

#include <string>

namespace kvfold {

struct ChatTurn {
    std::string opening; // up to where the answer begins
    std::string closing; // behind the answer
    bool one_line;       // without a template only the end of the line tells that an answer is over
};

// In the model's own chat template, else as "Question: ... Answer:". The turn is put into the template by
// itself: the sequence may hold a document, or turns that were folded.
ChatTurn make_turn(const llama_model* model, const std::string& question, bool is_first);

} // namespace kvfold
