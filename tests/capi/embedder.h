/* What every C program needs before it can compact: a model, a context, a text. Include kvfold.h before this.
 */
#ifndef KVFOLD_TESTS_EMBEDDER_H
#define KVFOLD_TESTS_EMBEDDER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT = 400, CAPACITY = 1024 };

static int failures = 0;

#define EXPECT(condition)                                                                                    \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            ++failures;                                                                                      \
            printf("FAILED %s:%d: %s (last error: %s)\n", __FILE__, __LINE__, #condition,                    \
                   kvfold_last_error());                                                                     \
        }                                                                                                    \
    } while (0)

static void quiet(enum ggml_log_level level, const char* text, void* data) {
    (void)level, (void)text, (void)data;
}

static llama_token tokens[CONTEXT];

/* A text that does not repeat itself: tokens of a fixed pseudo-random walk over the vocabulary. */
static void make_tokens(const struct llama_model* model) {
    const uint32_t vocabulary = (uint32_t)llama_vocab_n_tokens(llama_model_get_vocab(model));
    uint32_t state = 12345;
    for (int i = 0; i < CONTEXT; ++i) {
        state = state * 1664525u + 1013904223u;
        tokens[i] = (llama_token)((state >> 8) % vocabulary);
    }
}

static struct llama_model* load_tiny_model(void) {
    const char* path = getenv("KVFOLD_PLAIN_MODEL");
    if (!path) {
        puts("KVFOLD_PLAIN_MODEL is not set: the path of a GGUF model");
        return NULL;
    }
    llama_log_set(quiet, NULL);
    ggml_backend_load_all();
    struct llama_model* model = llama_model_load_from_file(path, llama_model_default_params());
    if (model) make_tokens(model);
    return model;
}

static struct llama_context* new_context(struct llama_model* model) {
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = CAPACITY;
    params.n_batch = CONTEXT;
    params.n_threads = params.n_threads_batch = 1; /* other tests run beside this one */
    return llama_init_from_model(model, params);
}

static void prefill(struct llama_context* ctx) {
    EXPECT(llama_decode(ctx, llama_batch_get_one(tokens, CONTEXT)) == 0);
}

#endif
