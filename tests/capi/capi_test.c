/* The C API from C99, on a tiny model: what an embedder of libllama does, and every sentence of kvfold.h that
 * a program can see. The exit code says whether all held. */
#include <kvfold/kvfold.h>

#include "capi/embedder.h"

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
    params = kvfold_compact_default_params();
    params.solve_on = "moon";
    EXPECT(kvfold_sequence_compact(ctx, 0, tokens, CONTEXT, &params, NULL) == KVFOLD_ERROR_INVALID_ARGUMENT);
    EXPECT(strstr(kvfold_last_error(), "auto, cpu, device") != NULL);
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
        kvfold_compact_report report = kvfold_compact_empty_report();
        EXPECT(kvfold_sequence_compact(ctx, 0, tokens, CONTEXT, &params, &report) == KVFOLD_OK);
        // The ratio of budgets by head is what a head sees on average; the cache takes the largest.
        const bool by_head = strcmp(params.method, "nonuniform") == 0;
        EXPECT(report.cells_before == CONTEXT);
        EXPECT(by_head ? report.cells_after <= CONTEXT / 2 : report.cells_after == CONTEXT / 4);
        EXPECT(report.bytes_after * (by_head ? 2 : 3) < report.bytes_before);
        EXPECT(llama_memory_seq_pos_min(llama_get_memory(ctx), 0) > 0); /* no cut inside of what was folded */
        EXPECT(llama_memory_seq_pos_max(llama_get_memory(ctx), 0) == CONTEXT - 1);
        llama_token next = tokens[3];
        EXPECT(llama_decode(ctx, llama_batch_get_one(&next, 1)) == 0);
        printf("  %-16s %zu -> %zu cells, output error %.3f\n", params.method, report.cells_before,
               report.cells_after, report.output_error);
    }
    EXPECT(kvfold_method_name(kvfold_method_count()) == NULL);
}

static kvfold_error compact_with(struct llama_context* ctx, const char* method, const llama_token* text,
                                 size_t n_tokens, kvfold_compact_report* report) {
    llama_memory_clear(llama_get_memory(ctx), true);
    prefill(ctx);
    kvfold_compact_params params = kvfold_compact_default_params();
    params.method = method;
    params.ratio = 4;
    return kvfold_sequence_compact(ctx, 0, text, n_tokens, &params, report);
}

static void the_methods_that_the_header_names_need_no_tokens_and_the_others_do(struct llama_context* ctx) {
    static const char* const without[] = {"keep_first", "keep_last", "keep_random", "generation"};
    size_t found = 0;
    for (size_t i = 0; i < kvfold_method_count(); ++i) {
        const char* name = kvfold_method_name(i);
        bool needs = true;
        for (size_t k = 0; k < sizeof without / sizeof *without; ++k)
            needs = needs && strcmp(name, without[k]) != 0;
        found += !needs;
        const kvfold_error error = compact_with(ctx, name, NULL, 0, NULL);
        EXPECT(error == (needs ? KVFOLD_ERROR_INVALID_ARGUMENT : KVFOLD_OK));
        EXPECT(!needs || strstr(kvfold_last_error(), "give the sequence's tokens") != NULL);
    }
    EXPECT(found == sizeof without / sizeof *without);
}

static void methods_have_names_and_the_report_says_which(struct llama_context* ctx) {
    static const char* const names[] = {"fast", "balanced", "best", NULL};
    for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
        kvfold_compact_report report = kvfold_compact_empty_report();
        EXPECT(report.method == NULL);
        EXPECT(compact_with(ctx, names[i], tokens, CONTEXT, &report) == KVFOLD_OK);
        bool is_method = false;
        for (size_t k = 0; k < kvfold_method_count(); ++k)
            is_method = is_method || (report.method && strcmp(report.method, kvfold_method_name(k)) == 0);
        EXPECT(is_method);
        if (!names[i]) EXPECT(strcmp(report.method, kvfold_method_name(0)) == 0);
    }
}

static void seconds_are_seconds_and_add_up_to_the_call(struct llama_context* ctx) {
    llama_memory_clear(llama_get_memory(ctx), true);
    prefill(ctx);
    kvfold_compact_params params = kvfold_compact_default_params();
    kvfold_compact_report report = kvfold_compact_empty_report();
    const int64_t start_us = llama_time_us();
    EXPECT(kvfold_sequence_compact(ctx, 0, tokens, CONTEXT, &params, &report) == KVFOLD_OK);
    const double wall = 1e-6 * (double)(llama_time_us() - start_us);
    const double sum = report.snapshot_s + report.study_s + report.solve_s + report.swap_s;
    EXPECT(sum <= wall + 1e-3);
    EXPECT(sum >= wall / 5); /* milliseconds or minutes would be far off; probing the model is in none */
    EXPECT(report.study_s > 0 && report.solve_s > 0);
}

static void structs_of_other_sizes(struct llama_context* ctx) {
    struct { /* of a newer header */
        kvfold_compact_params params;
        uint64_t newer;
    } params;
    struct {
        kvfold_compact_report report;
        uint64_t newer;
    } report = {0};
    EXPECT(kvfold_compact_params_init(&params.params, sizeof params) == KVFOLD_OK);
    EXPECT(kvfold_compact_report_init(&report.report, sizeof report) == KVFOLD_OK);
    EXPECT(params.newer == 0 && params.params.ratio == 8);
    params.params.method = "keep_last";
    llama_memory_clear(llama_get_memory(ctx), true);
    prefill(ctx);
    params.newer = 1;
    EXPECT(kvfold_sequence_compact(ctx, 0, NULL, 0, &params.params, &report.report) ==
           KVFOLD_ERROR_INVALID_ARGUMENT);
    EXPECT(strstr(kvfold_last_error(), "does not know") != NULL);
    params.newer = 0;
    report.newer = 1;
    EXPECT(kvfold_sequence_compact(ctx, 0, NULL, 0, &params.params, &report.report) == KVFOLD_OK);
    EXPECT(report.newer == 0 && report.report.struct_size == sizeof report);
    EXPECT(report.report.cells_before == CONTEXT);

    static const size_t wrong[] = {0, 8, offsetof(kvfold_compact_params, context_params),
                                   sizeof(kvfold_compact_params) - 1, sizeof(kvfold_compact_params) + 1};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        kvfold_compact_params some = kvfold_compact_default_params();
        some.struct_size = wrong[i];
        EXPECT(kvfold_sequence_compact(ctx, 0, tokens, CONTEXT, &some, NULL) ==
               KVFOLD_ERROR_INVALID_ARGUMENT);
        EXPECT(strstr(kvfold_last_error(), "struct_size") != NULL);
        EXPECT(strchr(kvfold_last_error(), '\n') == NULL);
        EXPECT(kvfold_compact_params_init(&some, wrong[i]) == KVFOLD_ERROR_INVALID_ARGUMENT);
        EXPECT(some.struct_size == wrong[i] && some.ratio == 8); /* untouched */
    }
    kvfold_compact_params good = kvfold_compact_default_params();
    kvfold_compact_report none = kvfold_compact_empty_report();
    none.struct_size = offsetof(kvfold_compact_report, mass_error);
    EXPECT(kvfold_sequence_compact(ctx, 0, tokens, CONTEXT, &good, &none) == KVFOLD_ERROR_INVALID_ARGUMENT);
    EXPECT(none.cells_before == 0);
    EXPECT(kvfold_compact_params_init(NULL, sizeof good) == KVFOLD_ERROR_INVALID_ARGUMENT);
    EXPECT(kvfold_compact_report_init(NULL, sizeof none) == KVFOLD_ERROR_INVALID_ARGUMENT);
}

static bool exists(const char* path) {
    FILE* file = fopen(path, "rb");
    if (file) fclose(file);
    return file != NULL;
}

static void a_slot_file_that_kvfold_would_refuse_is_not_written(struct llama_context* ctx) {
    const char* path = "capi_test_refused.slot";
    static llama_token wrong[CONTEXT + 1];
    memcpy(wrong, tokens, sizeof tokens);
    static const size_t counts[] = {0, 3, CONTEXT - 1, CONTEXT + 1};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; ++i) {
        EXPECT(kvfold_slot_save(ctx, 0, path, wrong, counts[i]) == KVFOLD_ERROR_INVALID_ARGUMENT);
        EXPECT(strstr(kvfold_last_error(), "one token for each position") != NULL);
        EXPECT(!exists(path));
    }
    static const llama_token strangers[] = {LLAMA_TOKEN_NULL, 1 << 30};
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; ++i) {
        wrong[5] = strangers[i];
        EXPECT(kvfold_slot_save(ctx, 0, path, wrong, CONTEXT) == KVFOLD_ERROR_INVALID_ARGUMENT);
        EXPECT(strstr(kvfold_last_error(), "vocabulary") != NULL);
        EXPECT(!exists(path));
    }
    EXPECT(kvfold_slot_save(ctx, 0, "/dev/null", tokens, CONTEXT) == KVFOLD_ERROR_IO);
    EXPECT(kvfold_slot_save(ctx, 0, ".", tokens, CONTEXT) == KVFOLD_ERROR_IO);
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

static void check_says_whether_a_model_can_be_compacted(struct llama_context* ctx) {
    const struct llama_context_params params = llama_context_default_params();
    EXPECT(kvfold_context_check(ctx, NULL) == KVFOLD_OK);
    EXPECT(kvfold_context_check(ctx, &params) == KVFOLD_OK);
    EXPECT(kvfold_context_check(NULL, NULL) == KVFOLD_ERROR_INVALID_ARGUMENT);
}

static void inspect_tells_what_is_folded(struct llama_context* ctx) {
    kvfold_sequence_info info = {0};
    EXPECT(kvfold_sequence_inspect(ctx, 0, &info) == KVFOLD_ERROR_INVALID_ARGUMENT);
    EXPECT(strstr(kvfold_last_error(), "sizeof(kvfold_sequence_info)") != NULL);
    info.struct_size = sizeof info;
    llama_memory_clear(llama_get_memory(ctx), true);
    EXPECT(kvfold_sequence_inspect(ctx, 0, &info) == KVFOLD_ERROR_INVALID_ARGUMENT);
    prefill(ctx);
    EXPECT(kvfold_sequence_inspect(ctx, 0, &info) == KVFOLD_OK);
    EXPECT(info.cells == CONTEXT && info.end == CONTEXT && info.folded_cells == 0 && info.folded_end == 0);
    kvfold_compact_params params = kvfold_compact_default_params();
    params.ratio = 4;
    params.keep_last = 16;
    params.n_threads = 1;
    EXPECT(kvfold_sequence_compact(ctx, 0, tokens, CONTEXT, &params, NULL) == KVFOLD_OK);
    EXPECT(kvfold_sequence_inspect(ctx, 0, &info) == KVFOLD_OK);
    EXPECT(info.cells == CONTEXT / 4 && info.end == CONTEXT);
    EXPECT(info.folded_cells == CONTEXT / 4 - 16 && info.folded_end == CONTEXT - 16);
}

static kvfold_error compact_into(struct llama_context* ctx, kvfold_archive* archive) {
    kvfold_compact_params params = kvfold_compact_default_params();
    params.ratio = 4;
    params.archive = archive;
    return kvfold_sequence_compact(ctx, 0, tokens, CONTEXT, &params, NULL);
}

static void an_archive_gives_the_cells_back_byte_for_byte(struct llama_context* ctx) {
    llama_memory_clear(llama_get_memory(ctx), true);
    prefill(ctx);
    uint8_t* before = NULL;
    const size_t size = state_of(ctx, &before);
    kvfold_archive* archive = kvfold_archive_init((size_t)1 << 30);
    EXPECT(archive != NULL && kvfold_archive_bytes(archive) == 0);
    EXPECT(kvfold_sequence_unfold(ctx, 0, archive) == KVFOLD_ERROR_INVALID_ARGUMENT);
    EXPECT(strstr(kvfold_last_error(), "nothing is folded") != NULL);

    EXPECT(compact_into(ctx, archive) == KVFOLD_OK);
    EXPECT(kvfold_archive_bytes(archive) > size / 2 && kvfold_archive_bytes(archive) < size);
    EXPECT(!same_state(ctx, before, size));
    EXPECT(kvfold_sequence_unfold(NULL, 0, archive) == KVFOLD_ERROR_INVALID_ARGUMENT);
    EXPECT(kvfold_sequence_unfold(ctx, 0, NULL) == KVFOLD_ERROR_INVALID_ARGUMENT);
    EXPECT(kvfold_sequence_unfold(ctx, 0, archive) == KVFOLD_OK);
    EXPECT(same_state(ctx, before, size));

    /* Another archive, and one too small for it, hold nothing of it. */
    kvfold_archive* others[] = {kvfold_archive_init((size_t)1 << 30), kvfold_archive_init(100)};
    EXPECT(compact_into(ctx, others[1]) == KVFOLD_OK);
    EXPECT(kvfold_archive_bytes(others[1]) == 0);
    for (size_t i = 0; i < sizeof others / sizeof *others; ++i) {
        EXPECT(kvfold_sequence_unfold(ctx, 0, others[i]) == KVFOLD_ERROR_NOT_FOUND);
        kvfold_archive_free(others[i]);
    }
    EXPECT(kvfold_sequence_unfold(ctx, 0, archive) == KVFOLD_OK); /* the same fold, found by its cells */
    EXPECT(same_state(ctx, before, size));
    free(before);
    kvfold_archive_free(archive);
    kvfold_archive_free(NULL);
    EXPECT(kvfold_archive_bytes(NULL) == 0);
}

static void an_archive_file_belongs_to_its_sequence(struct llama_context* ctx) {
    const char* path = "capi_test.archive";
    llama_memory_clear(llama_get_memory(ctx), true);
    prefill(ctx);
    uint8_t* before = NULL;
    const size_t size = state_of(ctx, &before);
    kvfold_archive* archive = kvfold_archive_init((size_t)1 << 30);
    EXPECT(kvfold_archive_save(archive, ctx, 0, path) == KVFOLD_ERROR_NOT_FOUND);
    EXPECT(!exists(path));
    EXPECT(compact_into(ctx, archive) == KVFOLD_OK);
    EXPECT(kvfold_archive_save(archive, ctx, 0, path) == KVFOLD_OK);
    EXPECT(kvfold_archive_save(archive, ctx, 0, "no/such/folder/x") == KVFOLD_ERROR_IO);
    kvfold_archive_free(archive);

    archive = kvfold_archive_init((size_t)1 << 30);
    EXPECT(kvfold_archive_load(archive, ctx, 0, "no/such/file") == KVFOLD_ERROR_IO);
    EXPECT(kvfold_archive_load(archive, ctx, 0, path) == KVFOLD_OK);
    EXPECT(kvfold_sequence_unfold(ctx, 0, archive) == KVFOLD_OK);
    EXPECT(same_state(ctx, before, size));
    EXPECT(kvfold_archive_load(archive, ctx, 0, path) ==
           KVFOLD_ERROR_INVALID_ARGUMENT); /* it is not folded now */
    EXPECT(strstr(kvfold_last_error(), "another slot file") != NULL);
    FILE* file = fopen(path, "r+b");
    EXPECT(file && fseek(file, 1000, SEEK_SET) == 0 && fputs("damage", file) > 0 && fclose(file) == 0);
    EXPECT(kvfold_archive_load(archive, ctx, 0, path) == KVFOLD_ERROR_CORRUPT);
    remove(path);
    free(before);
    kvfold_archive_free(archive);
}

enum { T = 40, D = 8, DV = 4, N = 32, KEPT = 10 };

static void fill(float* to, size_t count, uint32_t state) {
    for (size_t i = 0; i < count; ++i) {
        state = state * 1664525u + 1013904223u;
        to[i] = (float)(state >> 8) / (float)(1u << 23) - 1;
    }
}

static void a_head_is_solved_without_a_model(void) {
    static float keys[T * D], values[T * DV], queries[N * D], new_keys[T * D], new_values[T * DV];
    static uint32_t cells[T];
    fill(keys, T * D, 1), fill(values, T * DV, 2), fill(queries, N * D, 3);
    const uint32_t pinned[] = {0, 7};
    kvfold_head head = {sizeof head, keys, values, queries, T, D, DV, N, 0.5f, 0, NULL, pinned, 2};
    kvfold_head_result result = {sizeof result, cells, new_keys, new_values, 0, 0, 0};
    EXPECT(kvfold_head_solve(&head, KEPT, &result) == KVFOLD_OK);
    for (int i = 1; i < KEPT; ++i)
        EXPECT(cells[i] > cells[i - 1] && cells[i] < T);
    EXPECT(cells[0] == 0);
    const double fitted = result.output_error;
    EXPECT(fitted > 0 && fitted < 1);
    head.method = "select"; /* the broken twin of a fit: the cells as they are */
    EXPECT(kvfold_head_solve(&head, KEPT, &result) == KVFOLD_OK);
    EXPECT(memcmp(new_keys, keys, D * sizeof(float)) == 0);
    EXPECT(result.output_error > fitted);
    EXPECT(kvfold_head_solve(&head, T, &result) == KVFOLD_OK);
    EXPECT(memcmp(new_keys, keys, sizeof keys) == 0 && memcmp(new_values, values, sizeof values) == 0);
    fill(new_keys, T * D, 9);
    EXPECT(kvfold_head_solve(&head, 0, &result) == KVFOLD_ERROR_INVALID_ARGUMENT);
    EXPECT(kvfold_head_solve(&head, T + 1, &result) == KVFOLD_ERROR_INVALID_ARGUMENT);
    head.method = "keep_last";
    EXPECT(kvfold_head_solve(&head, KEPT, &result) == KVFOLD_ERROR_INVALID_ARGUMENT);
    EXPECT(strstr(kvfold_last_error(), "omp_refine") != NULL);
    head.method = NULL;
    head.values = NULL;
    EXPECT(kvfold_head_solve(&head, KEPT, &result) == KVFOLD_ERROR_INVALID_ARGUMENT);
    head.values = values;
    head.struct_size = 12;
    EXPECT(kvfold_head_solve(&head, KEPT, &result) == KVFOLD_ERROR_INVALID_ARGUMENT);
    head.struct_size = sizeof head;
    result.struct_size = 0;
    EXPECT(kvfold_head_solve(&head, KEPT, &result) == KVFOLD_ERROR_INVALID_ARGUMENT);
    result.struct_size = sizeof result;
    queries[3] = 0.0f / 0.0f;
    EXPECT(kvfold_head_solve(&head, KEPT, &result) == KVFOLD_ERROR_NUMERIC);
}

int main(void) {
    struct llama_model* model = load_tiny_model();
    if (!model) return 1;
    printf("kvfold %s\n", kvfold_version());
    a_cancelled_compaction_leaves_state_and_logits_bit_identical(model);
    struct llama_context* ctx = new_context(model);
    prefill(ctx);
    wrong_requests_are_refused_and_leave_the_sequence_alone(ctx);
    a_slot_file_comes_back_as_it_was(ctx);
    every_method_compacts_in_place_and_decoding_goes_on(ctx);
    the_same_seed_gives_the_same_cache(ctx);
    llama_memory_clear(llama_get_memory(ctx), true);
    prefill(ctx);
    a_slot_file_that_kvfold_would_refuse_is_not_written(ctx);
    the_methods_that_the_header_names_need_no_tokens_and_the_others_do(ctx);
    methods_have_names_and_the_report_says_which(ctx);
    seconds_are_seconds_and_add_up_to_the_call(ctx);
    structs_of_other_sizes(ctx);
    check_says_whether_a_model_can_be_compacted(ctx);
    inspect_tells_what_is_folded(ctx);
    an_archive_gives_the_cells_back_byte_for_byte(ctx);
    an_archive_file_belongs_to_its_sequence(ctx);
    a_head_is_solved_without_a_model();
    llama_free(ctx);
    llama_model_free(model);
    printf("%d failures\n", failures);
    return failures != 0;
}
