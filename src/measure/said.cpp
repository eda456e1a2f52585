#include "measure/said.h"

#include "measure/task.h"
#include "model/chat_turn.h"
#include "model/model.h"

namespace kvfold {

std::vector<llama_token> user_says(const llama_model* model, const std::string& text, bool is_first) {
    const ChatTurn turn = make_turn(model, text, is_first);
    std::vector<llama_token> tokens;
    if (!is_first) tokens = tokenize(model, turn.closing, /*add_bos=*/false, /*special=*/true);
    append(tokens, tokenize(model, turn.opening, /*add_bos=*/is_first, /*special=*/true));
    return tokens;
}

std::vector<llama_token> assistant_says(const llama_model* model, const std::string& text) {
    const bool in_line = make_turn(model, "", /*is_first=*/true).one_line; // behind "Answer:"
    return tokenize(model, (in_line ? " " : "") + text, /*add_bos=*/false, /*special=*/false);
}

} // namespace kvfold
