// A real model for tests, through the raw public API only. The models come from `scripts/setup --print-env`.
#pragma once

#include <ggml-backend.h>
#include <gtest/gtest.h>
#include <llama.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace kvfold::testing {

struct ModelDeleter {
    void operator()(llama_model* model) const { llama_model_free(model); }
};
struct ContextDeleter {
    void operator()(llama_context* ctx) const { llama_free(ctx); }
};
using ModelPtr = std::unique_ptr<llama_model, ModelDeleter>;
using ContextPtr = std::unique_ptr<llama_context, ContextDeleter>;

// Null, and a failure of the test, when it cannot be loaded. llama.cpp's log is silenced, errors included:
// tests of failures would fill the screen.
inline ModelPtr load_model_file(const std::string& path) {
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    ggml_backend_load_all(); // where they are separate libraries: as GGML_BACKEND_PATH says
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = 0; // logits are compared between runs
    ModelPtr model(llama_model_load_from_file(path.c_str(), params));
    if (!model) ADD_FAILURE() << "cannot load " << path;
    return model;
}

// The model that the environment variable names.
inline ModelPtr load_model(const char* variable) {
    const char* path = std::getenv(variable);
    if (path == nullptr) {
        ADD_FAILURE() << variable << " is not set: eval \"$(scripts/setup --print-env)\" and export it";
        return nullptr;
    }
    return load_model_file(path);
}

struct ContextOptions {
    uint32_t n_ctx = 1024;
    uint32_t n_seq_max = 1;
    bool unified = true;
    bool flash_attention = true;
    ggml_type type_k = GGML_TYPE_F16;
    ggml_type type_v = GGML_TYPE_F16;
    ggml_backend_sched_eval_callback watch = nullptr; // of the graph, with `watcher`
    void* watcher = nullptr;
};

// Tests run side by side, and waiting threads spin.
inline llama_context_params one_thread() {
    llama_context_params params = llama_context_default_params();
    params.n_threads = params.n_threads_batch = 1;
    return params;
}

inline ContextPtr make_context(const ModelPtr& model, const ContextOptions& options = {}) {
    llama_context_params params = one_thread();
    params.n_ctx = options.n_ctx;
    params.n_batch = options.n_ctx;
    params.n_seq_max = options.n_seq_max;
    params.kv_unified = options.unified;
    params.flash_attn_type =
        options.flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.type_k = options.type_k;
    params.type_v = options.type_v;
    params.cb_eval = options.watch;
    params.cb_eval_user_data = options.watcher;
    params.no_perf = true;
    ContextPtr ctx(model ? llama_init_from_model(model.get(), params) : nullptr);
    if (model && !ctx) ADD_FAILURE() << "cannot create a context";
    return ctx;
}

inline std::vector<llama_token> tokenize(const llama_model* model, const std::string& text) {
    const llama_vocab* vocab = llama_model_get_vocab(model);
    std::vector<llama_token> tokens(text.size() + 8);
    const int32_t count = llama_tokenize(vocab, text.data(), static_cast<int32_t>(text.size()), tokens.data(),
                                         static_cast<int32_t>(tokens.size()), /*add_special=*/true,
                                         /*parse_special=*/false);
    tokens.resize(count > 0 ? static_cast<size_t>(count) : 0);
    return tokens;
}

// `count` tokens of a text whose sentences all differ, the same on every call.
inline std::vector<llama_token> filler_tokens(const llama_model* model, size_t count) {
    std::string text;
    for (size_t i = 0; i * 8 < count; ++i)
        text += "Room " + std::to_string(i * 37 % 101) + " holds the number " +
                std::to_string(i * 7919 % 997) + ". ";
    std::vector<llama_token> tokens = tokenize(model, text);
    EXPECT_GE(tokens.size(), count);
    tokens.resize(count);
    return tokens;
}

// Decodes the tokens from position `first` on; only the last one gives logits. Returns llama_decode's answer.
inline int decode(llama_context* ctx, const std::vector<llama_token>& tokens, llama_pos first,
                  llama_seq_id seq_id = 0) {
    llama_batch batch = llama_batch_init(static_cast<int32_t>(tokens.size()), 0, 1);
    for (size_t i = 0; i < tokens.size(); ++i) {
        batch.token[i] = tokens[i];
        batch.pos[i] = first + static_cast<llama_pos>(i);
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = seq_id;
        batch.logits[i] = i + 1 == tokens.size();
    }
    batch.n_tokens = static_cast<int32_t>(tokens.size());
    const int result = llama_decode(ctx, batch);
    llama_batch_free(batch);
    return result;
}

// The logits of the last token decoded.
inline std::vector<float> last_logits(llama_context* ctx) {
    const float* logits = llama_get_logits_ith(ctx, -1);
    const int32_t count = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(ctx)));
    return logits == nullptr ? std::vector<float>{} : std::vector<float>(logits, logits + count);
}

// The state of a sequence as llama.cpp gives it, with its 8-byte header.
inline std::vector<uint8_t> raw_state(llama_context* ctx, llama_seq_id seq_id = 0) {
    std::vector<uint8_t> bytes(llama_state_seq_get_size(ctx, seq_id));
    EXPECT_EQ(llama_state_seq_get_data(ctx, bytes.data(), bytes.size(), seq_id), bytes.size());
    return bytes;
}

} // namespace kvfold::testing
