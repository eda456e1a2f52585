/* A program that was compiled against an older kvfold.h runs with today's library: what lies behind its
 * structs is neither read nor written. The twin claims today's sizes, and both are noticed. */
#include "old_header/kvfold.h"

#include "capi/embedder.h"

static bool cancel(int stage, float done, void* asked) {
    (void)stage, (void)done;
    ++*(int*)asked;
    return false;
}

/* What the program happens to have behind its structs. If it were read as today's n_threads, progress and
 * progress_data, the call would be cancelled. */
struct own_params {
    kvfold_compact_params params;
    int32_t threads, unused;
    bool (*progress)(int, float, void*);
    void* data;
};

struct own_report {
    kvfold_compact_report report;
    unsigned char canary[64];
};

static bool is_intact(const struct own_report* own) {
    for (size_t i = 0; i < sizeof own->canary; ++i)
        if (own->canary[i] != 0xa5) return false;
    return true;
}

static kvfold_error compact(struct llama_context* ctx, struct own_params* params, struct own_report* report) {
    llama_memory_clear(llama_get_memory(ctx), true);
    prefill(ctx);
    return kvfold_sequence_compact(ctx, 0, tokens, CONTEXT, &params->params, &report->report);
}

int main(void) {
    struct llama_model* model = load_tiny_model();
    if (!model) return 1;
    struct llama_context* ctx = new_context(model);
    int asked = 0;
    struct own_params params = {.threads = -7, .progress = cancel, .data = &asked};
    struct own_report report;
    memset(&report, 0xa5, sizeof report);

    EXPECT(kvfold_compact_params_init(&params.params, sizeof params.params) == KVFOLD_OK);
    EXPECT(kvfold_compact_report_init(&report.report, sizeof report.report) == KVFOLD_OK);
    EXPECT(params.threads == -7 && params.progress == cancel && params.data == &asked);
    EXPECT(is_intact(&report));
    EXPECT(params.params.ratio == 8 && params.params.keep_first == 4);
    params.params.ratio = 4;
    EXPECT(compact(ctx, &params, &report) == KVFOLD_OK);
    EXPECT(asked == 0);
    EXPECT(is_intact(&report));
    EXPECT(report.report.cells_before == CONTEXT && report.report.cells_after == CONTEXT / 4);
    EXPECT(report.report.mass_error > 0);

    /* Broken twins: the sizes of a header that the program was not compiled against. */
    report.report.struct_size = sizeof report;
    EXPECT(compact(ctx, &params, &report) == KVFOLD_OK);
    EXPECT(!is_intact(&report));
    params.params.struct_size = sizeof params;
    EXPECT(compact(ctx, &params, &report) == KVFOLD_ERROR_CANCELLED);
    EXPECT(asked > 0);

    llama_free(ctx);
    llama_model_free(model);
    printf("%d failures\n", failures);
    return failures != 0;
}
