// A small llama.cpp program: makes a context, then a second one, and says how large both believe to be. What
// it does then is told by two more words:
//   text N     decodes N tokens in one batch, the last with an output
//   outputs N  the same, all with outputs, and says of how many all functions that tell of it say the same
//   image N    the same, each token seeing all others, as images do
//   hidden 0   asks for hidden states as draft heads do, and says how large a batch may be then
//   poll N     as text, and then asks for the newest position again and again for some seconds
//   probe 0    loads the model without weights, and says how large contexts of it are: for text, for embeddings
//   tool 0     starts a program that says what it inherits
//   router 0   makes no context itself and calls nothing of llama.cpp: starts a guest that does
// Built twice: OTHER_VERSION makes it answer for llama.cpp's version with one that kvfold does not know.
#include <ggml-backend.h>
#include <llama.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef OTHER_VERSION
const char* llama_version(void) { return "9.9.9"; }
#endif

// C++, and not in llama.h.
void ask_for_hidden_states(struct llama_context* ctx, bool value, bool masked)
    __asm__("_Z26llama_set_embeddings_nextnP13llama_contextbb") __attribute__((weak));

static void quiet(enum ggml_log_level level, const char* text, void* data) {
    (void)level, (void)text, (void)data;
}

static int decode(struct llama_context* ctx, int32_t count, bool all_outputs) {
    struct llama_batch batch = llama_batch_init(count, 0, 1);
    for (int32_t i = 0; i < count; ++i) {
        batch.token[i] = 3 + i % 200;
        batch.pos[i] = i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = all_outputs || i + 1 == count;
    }
    batch.n_tokens = count;
    const int code = llama_decode(ctx, batch);
    llama_batch_free(batch);
    return code;
}

static int32_t outputs_that_agree(struct llama_context* ctx, int32_t count) {
    const int32_t width = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(ctx)));
    const float* rows = llama_get_logits(ctx);
    struct llama_sampler* greedy = llama_sampler_init_greedy();
    int32_t agree = 0;
    for (int32_t i = 0; i < count; ++i) {
        const float *row = llama_get_logits_ith(ctx, i), *from_the_end = llama_get_logits_ith(ctx, i - count);
        if (!row || row != from_the_end || memcmp(row, rows + (size_t)i * width, width * sizeof *row) != 0)
            continue;
        llama_token best = 0;
        for (llama_token token = 1; token < width; ++token)
            if (row[token] > row[best]) best = token;
        const bool none_was_sampled = llama_get_sampled_token_ith(ctx, i) == LLAMA_TOKEN_NULL &&
                                      llama_get_sampled_logits_count_ith(ctx, i) == (uint32_t)width &&
                                      llama_get_sampled_candidates_ith(ctx, i)[width - 1] == width - 1;
        agree += none_was_sampled && llama_sampler_sample(greedy, ctx, i) == best;
    }
    llama_sampler_free(greedy);
    return agree;
}

static long polls_that_erred(struct llama_context* ctx, llama_pos newest) {
    long wrong = 0;
    for (const time_t end = time(NULL) + 5; time(NULL) < end;) {
        for (int i = 0; i < 1000; ++i)
            wrong += llama_memory_seq_pos_max(llama_get_memory(ctx), 0) != newest;
    }
    return wrong;
}

static int probe(const char* path) {
    struct llama_model_params without = llama_model_default_params();
    without.no_alloc = true;
    without.load_mode = LLAMA_LOAD_MODE_NONE;
    struct llama_model* model = llama_model_load_from_file(path, without);
    for (int embeddings = 0; model && embeddings < 2; ++embeddings) {
        struct llama_context_params params = llama_context_default_params();
        params.n_ctx = 2048;
        params.embeddings = embeddings;
        struct llama_context* ctx = llama_init_from_model(model, params);
        printf("%u\n", ctx ? llama_n_ctx(ctx) : 0);
        llama_free(ctx);
    }
    llama_model_free(model);
    return model ? 0 : 1;
}

static int start_guest(const char* program, const char* model) {
    char command[4096];
    snprintf(command, sizeof(command), "'%s' '%s' tool 0", program, model);
    return system(command) == 0 ? 0 : 1;
}

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    if (argc > 3 && strcmp(argv[2], "router") == 0) return start_guest(argv[0], argv[1]);
    llama_log_set(quiet, NULL);
    ggml_backend_load_all();
    if (argc > 3 && strcmp(argv[2], "probe") == 0) return probe(argv[1]);
    struct llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) return 1;
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = 2048;
    params.n_threads = params.n_threads_batch = 1;
    struct llama_context* first = llama_init_from_model(model, params);
    struct llama_context* second = llama_init_from_model(model, params);
    if (!first || !second) return 1;
    printf("%u %u %u\n", llama_n_ctx(first), llama_n_ctx(second), llama_n_batch(first));
    fflush(stdout);
    if (argc > 3 && strcmp(argv[2], "tool") == 0) {
        if (system("echo \"libraries=$LD_PRELOAD settings=$KVFOLD_PRELOAD set=${LD_PRELOAD+yes}\"") != 0)
            return 1;
    } else if (argc > 3 && strcmp(argv[2], "hidden") == 0) {
        ask_for_hidden_states(first, true, false);
        printf("%u\n", llama_n_batch(first));
    } else if (argc > 3) {
        const char* mode = argv[2];
        const int32_t count = atoi(argv[3]);
        llama_set_causal_attn(first, strcmp(mode, "image") != 0);
        const int code = decode(first, count, strcmp(mode, "outputs") == 0);
        printf("%d %d\n", code, code == 0 && llama_get_logits_ith(first, count - 1) != NULL);
        if (code == 0 && strcmp(mode, "outputs") == 0) printf("%d\n", outputs_that_agree(first, count));
        if (strcmp(mode, "poll") == 0) printf("%ld\n", polls_that_erred(first, count - 1));
    }
    llama_free(second);
    llama_free(first);
    llama_model_free(model);
    return 0;
}
