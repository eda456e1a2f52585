/* A small llama.cpp program: makes a context, then a second one, and says how large both believe to be.
 * Built twice: OTHER_VERSION makes it answer for llama.cpp's version with one that kvfold does not know. */
#include <llama.h>

#include <stdio.h>

#ifdef OTHER_VERSION
const char* llama_version(void) { return "9.9.9"; }
#endif

static void quiet(enum ggml_log_level level, const char* text, void* data) {
    (void)level, (void)text, (void)data;
}

int main(int argc, char** argv) {
    if (argc < 2) return 2;
    llama_log_set(quiet, NULL);
    ggml_backend_load_all();
    struct llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) return 1;
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = 2048;
    params.n_threads = params.n_threads_batch = 1;
    struct llama_context* first = llama_init_from_model(model, params);
    struct llama_context* second = llama_init_from_model(model, params);
    if (!first || !second) return 1;
    printf("%u %u %u\n", llama_n_ctx(first), llama_n_ctx(second), llama_n_batch(first));
    llama_free(second);
    llama_free(first);
    llama_model_free(model);
    return 0;
}
