#include "model/model.h"

#include "model/llama_check.h"

#include <array>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <optional>
#include <string>

namespace kvfold {

namespace {

std::mutex log_mutex;
std::string first_log_error; // the first names the cause, the later ones what failed because of it

void keep_first_error(ggml_log_level level, const char* text, void*) {
    if (level != GGML_LOG_LEVEL_ERROR) return;
    const std::lock_guard lock(log_mutex);
    if (!first_log_error.empty()) return;
    first_log_error = text;
    while (!first_log_error.empty() && first_log_error.back() == '\n')
        first_log_error.pop_back();
}

bool starts_with_gguf_magic(const std::filesystem::path& path) {
    std::array<char, 4> magic = {};
    std::ifstream(path, std::ios::binary).read(magic.data(), magic.size());
    return std::string_view(magic.data(), magic.size()) == "GGUF";
}

// A number of the model's metadata, by its key behind that of the architecture; nothing where it has none.
std::optional<double> metadata(const llama_model* model, const std::string& key) {
    std::array<char, 128> text;
    const auto read = [&](const std::string& name) {
        return llama_model_meta_val_str(model, name.c_str(), text.data(), text.size()) > 0;
    };
    if (!read("general.architecture") || !read(std::string(text.data()) + "." + key)) return std::nullopt;
    return std::strtod(text.data(), nullptr);
}

} // namespace

void silence_llama_log() { llama_log_set(keep_first_error, nullptr); }

Result<ModelPtr> load_model(const std::filesystem::path& path, int n_gpu_layers) {
    KVFOLD_CHECK(check_llama());
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error))
        return fail(ErrorCode::io, "{}: no such file; give a GGUF model", path.string());
    if (!starts_with_gguf_magic(path)) return fail(ErrorCode::corrupt, "{}: not a GGUF file", path.string());
    {
        const std::lock_guard lock(log_mutex);
        first_log_error.clear();
    }
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = n_gpu_layers;
    ModelPtr model(llama_model_load_from_file(path.string().c_str(), params));
    if (!model) {
        const std::lock_guard lock(log_mutex);
        return fail(ErrorCode::llama, "{}: llama.cpp cannot load it: {}", path.string(),
                    first_log_error.empty() ? "no reason given" : first_log_error);
    }
    return model;
}

std::vector<llama_token> tokenize(const llama_model* model, std::string_view text, bool add_bos,
                                  bool special) {
    const llama_vocab* vocab = llama_model_get_vocab(model);
    const auto size = static_cast<int32_t>(text.size());
    std::vector<llama_token> tokens(text.size() + 2);
    int32_t n = llama_tokenize(vocab, text.data(), size, tokens.data(), static_cast<int32_t>(tokens.size()),
                               add_bos, special);
    if (n < 0) { // a vocabulary with more tokens than bytes: it says how many it needs
        tokens.resize(static_cast<size_t>(-n));
        n = llama_tokenize(vocab, text.data(), size, tokens.data(), -n, add_bos, special);
    }
    tokens.resize(static_cast<size_t>(std::max(n, 0)));
    return tokens;
}

std::string detokenize(const llama_model* model, std::span<const llama_token> tokens) {
    const llama_vocab* vocab = llama_model_get_vocab(model);
    std::string text;
    std::array<char, 256> piece;
    for (const llama_token token : tokens) {
        const int32_t n = llama_token_to_piece(vocab, token, piece.data(), piece.size(), 0, false);
        if (n > 0) text.append(piece.data(), static_cast<size_t>(n));
    }
    return text;
}

std::string apply_chat_template(const llama_model* model, std::span<const ChatMessage> messages,
                                bool assistant_next) {
    const char* chat_template = llama_model_chat_template(model, nullptr);
    if (!chat_template) return {};
    std::vector<llama_chat_message> views;
    for (const ChatMessage& message : messages)
        views.push_back({message.role.c_str(), message.content.c_str()});
    std::string text(1024, '\0');
    for (int attempt = 0; attempt < 2; ++attempt) {
        const int32_t n = llama_chat_apply_template(chat_template, views.data(), views.size(), assistant_next,
                                                    text.data(), static_cast<int32_t>(text.size()));
        if (n < 0) return {};
        const bool fits = static_cast<size_t>(n) <= text.size();
        text.resize(static_cast<size_t>(n));
        if (fits) return text;
    }
    return {};
}

double weights_of_token(const llama_model* model) {
    const auto vocabulary = static_cast<double>(llama_vocab_n_tokens(llama_model_get_vocab(model))) *
                            static_cast<double>(llama_model_n_embd(model));
    const auto all = static_cast<double>(llama_model_n_params(model)) - vocabulary;
    const auto experts = metadata(model, "expert_count"), used = metadata(model, "expert_used_count");
    return experts && used && *experts > 0 ? all * *used / *experts : all;
}

} // namespace kvfold
