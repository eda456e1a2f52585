// A llama.cpp that differs in one thing from the one that kvfold was built for. Built once for each difference.
#define _GNU_SOURCE
#define llama_context_default_params declared_context_default_params
#define ggml_op_name declared_op_name
#define ggml_type_name declared_type_name
#define llama_state_seq_get_data declared_state_seq_get_data
#define llama_state_seq_get_size declared_state_seq_get_size
#include <llama.h>
#undef llama_context_default_params
#undef ggml_op_name
#undef ggml_type_name
#undef llama_state_seq_get_data
#undef llama_state_seq_get_size

#include <dlfcn.h>
#include <string.h>

#if defined(LONGER) // a field more at the end
struct longer {
    struct llama_context_params known;
    size_t more;
};
struct longer llama_context_default_params(void) {
    struct llama_context_params (*original)(void) = dlsym(RTLD_NEXT, "llama_context_default_params");
    struct longer params;
    params.known = original();
    params.more = 1;
    return params;
}
#elif defined(MOVED) // as long, two fields in each other's place
struct llama_context_params llama_context_default_params(void) {
    struct llama_context_params (*original)(void) = dlsym(RTLD_NEXT, "llama_context_default_params");
    struct llama_context_params params = original();
    params.n_ctx = params.n_batch;
    params.n_batch = 512;
    return params;
}
#elif defined(RENAMED)
const char * ggml_op_name(enum ggml_op op) {
    const char * (*original)(enum ggml_op) = dlsym(RTLD_NEXT, "ggml_op_name");
    const char * name = original(op);
    return strcmp(name, "FLASH_ATTN_EXT") == 0 ? "ATTENTION" : name;
}
#elif defined(RETYPED)
const char * ggml_type_name(enum ggml_type type) {
    const char * (*original)(enum ggml_type) = dlsym(RTLD_NEXT, "ggml_type_name");
    return type == GGML_TYPE_Q8_0 ? "q8_9" : original(type);
}
#elif defined(RESTATED) // four bytes more in every state
size_t llama_state_seq_get_size(struct llama_context * ctx, llama_seq_id seq_id) {
    size_t (*original)(struct llama_context *, llama_seq_id) = dlsym(RTLD_NEXT, "llama_state_seq_get_size");
    return original(ctx, seq_id) + 4;
}
size_t llama_state_seq_get_data(struct llama_context * ctx, uint8_t * to, size_t size, llama_seq_id seq_id) {
    size_t (*original)(struct llama_context *, uint8_t *, size_t, llama_seq_id) =
        dlsym(RTLD_NEXT, "llama_state_seq_get_data");
    const size_t written = original(ctx, to, size - 4, seq_id);
    memset(to + written, 7, 4);
    return written + 4;
}
#endif
