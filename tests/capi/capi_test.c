/* The C API from C99, on a real model: what an embedder of libllama does. Prints each scenario; the exit code
 * says whether all held. */
#include <kvfold/kvfold.h>

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

/* A text that does not repeat itself: tokens of a fixed pseudo-random walk over the vocabulary. */
static void make_tokens(const struct llama_model* model) {
    const uint32_t vocabulary = (uint32_t)llama_vocab_n_tokens(llama_model_get_vocab(model));
    uint32_t state = 12345;
    for (int i = 0; i < CONTEXT; ++i) {
        state = state * 1664525u + 1013904223u;
        tokens[i] = (llama_token)((state >> 8) % (vocabulary < 20000 ? vocabulary : 20000));
    }
}

static size_t state_of(struct llama_context* ctx, uint8_t** bytes) {
    const size_t size = llama_state_seq_get_size(ctx, 0);
    *bytes = malloc(size);
    return llama_state_seq_get_data(ctx, *bytes, size, 0);
}

static bool same_state(struct llama_context* ctx, const uint8_t* bytes, size_t size) {
    uint8_t* now = NULL;
    const size_t now_size = state_of(ctx, &now);
    const bool same = now_size == size && memcmp(now, bytes, size) == 0;
    free(now);
    return same;
}

static bool cancel_in_solve(kvfold_stage stage, float done, void* asked) {
    (void)done;
    ++*(int*)asked;
    return stage != KVFOLD_STAGE_SOLVE;
}

static void a_cancelled_compaction_leaves_state_and_logits_bit_identical(struct llama_model* model) {
    struct llama_context* touched = new_context(model);
    struct llama_context* untouched = new_context(model);
    prefill(touched);
    prefill(untouched);
    const size_t vocabulary = (size_t)llama_vocab_n_tokens(llama_model_get_vocab(model));
    uint8_t* before = NULL;
    const size_t size = state_of(touched, &before);

    int asked = 0;
    kvfold_compact_params params = kvfold_compact_default_params();
    params.progress = cancel_in_solve;
    params.progress_data = &asked;
    EXPECT(kvfold_sequence_compact(touched, 0, tokens, CONTEXT, &params, NULL) == KVFOLD_ERROR_CANCELLED);
    EXPECT(asked > 1);
    EXPECT(same_state(touched, before, size));
    EXPECT(memcmp(llama_get_logits(touched), llama_get_logits(untouched), vocabulary * sizeof(float)) == 0);
    llama_token next = tokens[7];
    EXPECT(llama_decode(touched, llama_batch_get_one(&next, 1)) == 0);
    EXPECT(llama_decode(untouched, llama_batch_get_one(&next, 1)) == 0);
    EXPECT(memcmp(llama_get_logits(touched), llama_get_logits(untouched), vocabulary * sizeof(float)) == 0);
    /* Broken twin: another next token must be noticed. */
    next = tokens[8];
    EXPECT(llama_decode(touched, llama_batch_get_one(&next, 1)) == 0);
    next = tokens[9];
    EXPECT(llama_decode(untouched, llama_batch_get_one(&next, 1)) == 0);
    EXPECT(memcmp(llama_get_logits(touched), llama_get_logits(untouched), vocabulary * sizeof(float)) != 0);
    free(before);
    llama_free(touched);
    llama_free(untouched);
}

static void wrong_requests_are_refused_and_leave_the_sequence_alone(struct llama_context* ctx) {
    uint8_t* before = NULL;
    const size_t size = state_of(ctx, &before);
    kvfold_compact_params params = kvfold_compact_default_params();
    EXPECT(kvfold_sequence_compact(NULL, 0, tokens, CONTEXT, &params, NULL) == KVFOLD_ERROR_INVALID_ARGUMENT);
    EXPECT(kvfold_sequence_compact(ctx, 0, tokens, CONTEXT, NULL, NULL) == KVFOLD_ERROR_INVALID_ARGUMENT);
    EXPECT(kvfold_sequence_compact(ctx, 7, tokens, CONTEXT, &params, NULL) == KVFOLD_ERROR_INVALID_ARGUMENT);
    EXPECT(kvfold_sequence_compact(ctx, 0, tokens, CONTEXT - 1, &params, NULL) ==
           KVFOLD_ERROR_INVALID_ARGUMENT);
    EXPECT(strstr(kvfold_last_error(), "399 tokens") != NULL);
    EXPECT(kvfold_sequence_compact(ctx, 0, NULL, 0, &params, NULL) == KVFOLD_ERROR_INVALID_ARGUMENT);
    params.ratio = 0.5;
    EXPECT(kvfold_sequence_compact(ctx, 0, tokens, CONTEXT, &params, NULL) == KVFOLD_ERROR_INVALID_ARGUMENT);
    params.ratio = 1e9;
    EXPECT(kvfold_sequence_compact(ctx, 0, tokens, CONTEXT, &params, NULL) == KVFOLD_ERROR_INVALID_ARGUMENT);
    params = kvfold_compact_default_params();
    params.method = "no such method";
    EXPECT(kvfold_sequence_compact(ctx, 0, tokens, CONTEXT, &params, NULL) == KVFOLD_ERROR_INVALID_ARGUMENT);
    EXPECT(strstr(kvfold_last_error(), "solver") != NULL);
    EXPECT(same_state(ctx, before, size));
    free(before);
}

static void every_method_compacts_in_place_and_decoding_goes_on(struct llama_context* ctx) {
    for (size_t i = 0; i < kvfold_method_count(); ++i) {
        llama_memory_clear(llama_get_memory(ctx), true);
        prefill(ctx);
        kvfold_compact_params params = kvfold_compact_default_params();
        params.method = kvfold_method_name(i);
        params.ratio = 4;
        kvfold_compact_report report;
        EXPECT(kvfold_sequence_compact(ctx, 0, tokens, CONTEXT, &params, &report) == KVFOLD_OK);
        // The ratio of budgets by head is what a head sees on average; the cache takes the largest.
        const bool by_head = strcmp(params.method, "nonuniform") == 0;
        EXPECT(report.cells_before == CONTEXT);
        EXPECT(by_head ? report.cells_after <= CONTEXT / 2 : report.cells_after == CONTEXT / 4);
        EXPECT(report.bytes_after * (by_head ? 2 : 3) < report.bytes_before);
        EXPECT(llama_memory_seq_pos_min(llama_get_memory(ctx), 0) == 0);
        EXPECT(llama_memory_seq_pos_max(llama_get_memory(ctx), 0) == CONTEXT - 1);
        llama_token next = tokens[3];
        EXPECT(llama_decode(ctx, llama_batch_get_one(&next, 1)) == 0);
        printf("  %-16s %zu -> %zu cells, output error %.3f\n", params.method, report.cells_before,
               report.cells_after, report.output_error);
    }
    EXPECT(kvfold_method_name(kvfold_method_count()) == NULL);
}

static void the_same_seed_gives_the_same_cache(struct llama_context* ctx) {
    uint8_t* first = NULL;
    size_t size = 0;
    for (uint64_t run = 0; run < 3; ++run) {
        llama_memory_clear(llama_get_memory(ctx), true);
        prefill(ctx);
        kvfold_compact_params params = kvfold_compact_default_params();
        params.seed = run == 2 ? 99 : 1; /* broken twin: another seed must give another cache */
        EXPECT(kvfold_sequence_compact(ctx, 0, tokens, CONTEXT, &params, NULL) == KVFOLD_OK);
        if (run == 0)
            size = state_of(ctx, &first);
        else
            EXPECT(same_state(ctx, first, size) == (run == 1));
    }
    free(first);
}

static void a_slot_file_comes_back_as_it_was(struct llama_context* ctx) {
    const char* path = "capi_test.slot";
    uint8_t* before = NULL;
    const size_t size = state_of(ctx, &before);
    EXPECT(kvfold_slot_save(ctx, 0, path, tokens, CONTEXT) == KVFOLD_OK);
    llama_memory_clear(llama_get_memory(ctx), true);
    llama_token loaded[CONTEXT];
    size_t count = 0;
    EXPECT(kvfold_slot_load(ctx, 0, path, loaded, 0, &count) == KVFOLD_ERROR_INVALID_ARGUMENT);
    EXPECT(count == CONTEXT);
    EXPECT(kvfold_slot_load(ctx, 0, path, loaded, CONTEXT, &count) == KVFOLD_OK);
    EXPECT(memcmp(loaded, tokens, sizeof tokens) == 0);
    EXPECT(same_state(ctx, before, size));
    EXPECT(kvfold_slot_load(ctx, 0, "no/such/file", loaded, CONTEXT, &count) == KVFOLD_ERROR_IO);
    EXPECT(strstr(kvfold_last_error(), "no/such/file") != NULL);
    EXPECT(kvfold_slot_save(ctx, 0, "no/such/folder/x", tokens, CONTEXT) == KVFOLD_ERROR_IO);
    EXPECT(same_state(ctx, before, size));
    remove(path);
    free(before);
}

int main(void) {
    const char* path = getenv("KVFOLD_PLAIN_MODEL");
    if (!path) {
        puts("KVFOLD_PLAIN_MODEL is not set: the path of a GGUF model");
        return 1;
    }
    llama_log_set(quiet, NULL);
    ggml_backend_load_all();
    struct llama_model* model = llama_model_load_from_file(path, llama_model_default_params());
    EXPECT(model != NULL);
    make_tokens(model);
    printf("kvfold %s\n", kvfold_version());
    a_cancelled_compaction_leaves_state_and_logits_bit_identical(model);
    struct llama_context* ctx = new_context(model);
    prefill(ctx);
    wrong_requests_are_refused_and_leave_the_sequence_alone(ctx);
    a_slot_file_comes_back_as_it_was(ctx);
    every_method_compacts_in_place_and_decoding_goes_on(ctx);
    the_same_seed_gives_the_same_cache(ctx);
    llama_free(ctx);
    llama_model_free(model);
    printf("%d failures\n", failures);
    return failures != 0;
}
