// Writes the seeds of the fuzz target sequence_state: slot files of a few cells, as llama.cpp saves them.
//   fuzz_make_seeds MODELS FOLDER        MODELS: what tests/support/tiny_models.py wrote
#include <llama.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace {

struct Seed {
    const char* name;
    const char* model;
    bool unified = true;
    bool flash_attention = true;
    ggml_type keys = GGML_TYPE_F16, values = GGML_TYPE_F16;
    int32_t tokens = 4;
    llama_pos gap = -1; // a position that is removed again
};

constexpr llama_seq_id kSequence = 1; // of two: in a split cache the second stream

constexpr Seed kSeeds[] = {
    {.name = "mha_unified", .model = "mha", .tokens = 2},
    {.name = "mha_split", .model = "mha", .unified = false, .tokens = 1},
    {.name = "mqa_unified", .model = "mqa"},
    {.name = "mqa_split", .model = "mqa", .unified = false},
    {.name = "mqa_one_cell", .model = "mqa", .tokens = 1},
    {.name = "mqa_gap", .model = "mqa", .tokens = 6, .gap = 2},
    {.name = "mqa_transposed", .model = "mqa", .flash_attention = false},
    {.name = "mqa_split_transposed", .model = "mqa", .unified = false, .flash_attention = false},
    {.name = "mqa_f32", .model = "mqa", .keys = GGML_TYPE_F32, .values = GGML_TYPE_F32, .tokens = 2},
    {.name = "mqa_bf16", .model = "mqa", .keys = GGML_TYPE_BF16, .values = GGML_TYPE_BF16},
    {.name = "mqa_q8_0_q4_0", .model = "mqa", .keys = GGML_TYPE_Q8_0, .values = GGML_TYPE_Q4_0},
    {.name = "mqa_q5_1_q4_1", .model = "mqa", .keys = GGML_TYPE_Q5_1, .values = GGML_TYPE_Q4_1},
    {.name = "mqa_q5_0_iq4_nl", .model = "mqa", .keys = GGML_TYPE_Q5_0, .values = GGML_TYPE_IQ4_NL},
    {.name = "mqa_q8_0_transposed", .model = "mqa", .flash_attention = false, .keys = GGML_TYPE_Q8_0},
    {.name = "unequal_widths", .model = "unequal_widths", .tokens = 2},
    {.name = "gemma3_unified", .model = "gemma3", .tokens = 2},
    {.name = "gemma3_split", .model = "gemma3", .unified = false, .tokens = 1},
    {.name = "gemma3_transposed", .model = "gemma3", .flash_attention = false, .tokens = 2},
    {.name = "qwen2vl_unified", .model = "qwen2vl"},
    {.name = "qwen2vl_split", .model = "qwen2vl", .unified = false, .tokens = 2},
    {.name = "qwen2vl_transposed", .model = "qwen2vl", .flash_attention = false, .tokens = 3},
    {.name = "granite_hybrid_unified", .model = "granite_hybrid", .tokens = 1},
    {.name = "granite_hybrid_split", .model = "granite_hybrid", .unified = false, .tokens = 1},
    {.name = "jamba_transposed", .model = "jamba", .flash_attention = false, .tokens = 2},
    {.name = "qwen35_unified", .model = "qwen35", .tokens = 2}, // M-RoPE and a recurrent state
    {.name = "qwen35_split", .model = "qwen35", .unified = false, .tokens = 1},
    {.name = "refused_mla", .model = "mla", .tokens = 2},
    {.name = "refused_mamba", .model = "mamba", .tokens = 1},
};

using Model = std::unique_ptr<llama_model, decltype(&llama_model_free)>;
using Context = std::unique_ptr<llama_context, decltype(&llama_free)>;

Model open_model(const std::string& path) {
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = 0;
    return {llama_model_load_from_file(path.c_str(), params), llama_model_free};
}

Context open_context(llama_model* model, const Seed& seed) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = 512;
    params.n_seq_max = 2;
    params.kv_unified = seed.unified;
    params.n_threads = params.n_threads_batch = 1;
    params.flash_attn_type =
        seed.flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.type_k = seed.keys;
    params.type_v = seed.values;
    return {llama_init_from_model(model, params), llama_free};
}

bool decode(llama_context* ctx, const std::vector<llama_token>& tokens) {
    llama_batch batch = llama_batch_init(static_cast<int32_t>(tokens.size()), 0, 1);
    for (size_t i = 0; i < tokens.size(); ++i) {
        batch.token[i] = tokens[i];
        batch.pos[i] = static_cast<llama_pos>(i);
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = kSequence;
        batch.logits[i] = i + 1 == tokens.size();
    }
    batch.n_tokens = static_cast<int32_t>(tokens.size());
    const bool decoded = llama_decode(ctx, batch) == 0;
    llama_batch_free(batch);
    return decoded;
}

bool write_seed(const Seed& seed, const std::string& models, const std::string& folder) {
    const Model model = open_model(models + "/" + seed.model + ".gguf");
    if (!model) return false;
    const Context ctx = open_context(model.get(), seed);
    if (!ctx) return false;
    std::vector<llama_token> tokens;
    for (int32_t i = 0; i < seed.tokens; ++i)
        tokens.push_back(260 + i);
    if (!decode(ctx.get(), tokens)) return false;
    if (seed.gap >= 0 && !llama_memory_seq_rm(llama_get_memory(ctx.get()), kSequence, seed.gap, seed.gap + 1))
        return false;
    const std::string path = folder + "/" + seed.name + ".slot";
    return llama_state_seq_save_file(ctx.get(), path.c_str(), kSequence, tokens.data(), tokens.size()) > 0;
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 3) return std::fprintf(stderr, "usage: fuzz_make_seeds MODELS FOLDER\n"), 2;
    llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
    for (const Seed& seed : kSeeds)
        if (!write_seed(seed, argv[1], argv[2])) return std::fprintf(stderr, "%s failed\n", seed.name), 1;
}
