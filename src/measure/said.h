// What is said in a conversation, as tokens: in the model's chat template when it has one.
#pragma once

#include <llama.h>

#include <string>
#include <vector>

namespace kvfold {

// The prompt of a turn in which the user says `text`: from behind what the assistant said before, or from the
// beginning of the conversation, up to where the assistant begins to speak.
std::vector<llama_token> user_says(const llama_model* model, const std::string& text, bool is_first);

// What the assistant says behind that.
std::vector<llama_token> assistant_says(const llama_model* model, const std::string& text);

} // namespace kvfold
