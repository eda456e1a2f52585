// A llama_model that frees itself, its vocabulary and its chat template.
#pragma once

#include "base/result.h"

#include <llama.h>

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kvfold {

struct ModelDeleter {
    void operator()(llama_model* model) const { llama_model_free(model); }
};
using ModelPtr = std::unique_ptr<llama_model, ModelDeleter>;

// n_gpu_layers: as llama.cpp's -ngl; negative = all. Errors name the file and what llama.cpp said of it.
Result<ModelPtr> load_model(const std::filesystem::path& path, int n_gpu_layers);

// Weights that a token of a prefill is multiplied with: all but the table of its vocabulary, and of experts
// the share that is used. An output head of its own counts too, for nothing says whether there is one.
double weights_of_token(const llama_model* model);

// Sends llama.cpp's log nowhere; load_model still reports its first error. For programs, not for the library:
// the log callback is global.
void silence_llama_log();

// special: whether text like <|im_start|> becomes control tokens. add_bos: as the model wants it.
std::vector<llama_token> tokenize(const llama_model* model, std::string_view text, bool add_bos,
                                  bool special);
std::string detokenize(const llama_model* model, std::span<const llama_token> tokens);

struct ChatMessage {
    std::string role, content;
};

// The messages in the model's own chat template, up to where the assistant begins to speak when asked for.
// Empty when the model has no template that llama.cpp can apply.
std::string apply_chat_template(const llama_model* model, std::span<const ChatMessage> messages,
                                bool assistant_next);

} // namespace kvfold
