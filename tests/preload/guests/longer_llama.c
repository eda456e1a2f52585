// A llama.cpp whose parameter structs are longer than kvfold's, and a program of it: what the program put behind
// the fields that kvfold knows must arrive.
#define llama_init_from_model declared_init_from_model
#define llama_model_load_from_file declared_model_load_from_file
#include <llama.h>
#undef llama_init_from_model
#undef llama_model_load_from_file

#include <stdio.h>

struct longer_context {
    struct llama_context_params known;
    size_t more[3];
};
struct longer_model {
    struct llama_model_params known;
    size_t more[3];
};
struct llama_model * llama_model_load_from_file(const char * path, struct longer_model params);
struct llama_context * llama_init_from_model(struct llama_model * model, struct longer_context params);

#ifdef LIBRARY
struct llama_model * llama_model_load_from_file(const char * path, struct longer_model params) {
    printf("model %s %u %zu %zu\n", path, params.known.n_gpu_layers, params.more[0], params.more[2]);
    return (struct llama_model *) path;
}
struct llama_context * llama_init_from_model(struct llama_model * model, struct longer_context params) {
    printf("context %u %zu %zu\n", params.known.n_ctx, params.more[0], params.more[2]);
    return model ? (struct llama_context *) model : NULL;
}
#else
int main(void) {
    struct longer_model of_model = {.known = {.n_gpu_layers = 5}, .more = {6, 7, 8}};
    struct llama_model * model = llama_model_load_from_file("name", of_model);
    struct longer_context of_context = {.known = {.n_ctx = 1}, .more = {2, 3, 4}};
    return llama_init_from_model(model, of_context) ? 0 : 1;
}
#endif
