// llama.cpp's own functions, behind the wrappers of the same names that this library exports.
#pragma once

#include "base/result.h"

#include <llama.h>

// The functions that the library wraps. What else llama.h has for a context is excused in
// tests/preload/test_wrapped.py, each with its reason.
#define KVFOLD_WRAPPED_ALWAYS(X)                                                                             \
    X(llama_model_load_from_file)                                                                            \
    X(llama_model_load_from_splits)                                                                          \
    X(llama_init_from_model)                                                                                 \
    X(llama_free)                                                                                            \
    X(llama_n_ctx)                                                                                           \
    X(llama_n_ctx_seq)                                                                                       \
    X(llama_n_batch)                                                                                         \
    X(llama_encode)                                                                                          \
    X(llama_decode)                                                                                          \
    X(llama_set_causal_attn)                                                                                 \
    X(llama_set_embeddings)                                                                                  \
    X(llama_set_sampler)                                                                                     \
    X(llama_set_adapters_lora)                                                                               \
    X(llama_set_adapter_cvec)                                                                                \
    X(llama_get_logits)                                                                                      \
    X(llama_get_logits_ith)                                                                                  \
    X(llama_get_embeddings_ith)                                                                              \
    X(llama_get_sampled_token_ith)                                                                           \
    X(llama_get_sampled_probs_ith)                                                                           \
    X(llama_get_sampled_probs_count_ith)                                                                     \
    X(llama_get_sampled_logits_ith)                                                                          \
    X(llama_get_sampled_logits_count_ith)                                                                    \
    X(llama_get_sampled_candidates_ith)                                                                      \
    X(llama_get_sampled_candidates_count_ith)                                                                \
    X(llama_sampler_sample)                                                                                  \
    X(llama_memory_clear)                                                                                    \
    X(llama_memory_seq_rm)                                                                                   \
    X(llama_memory_seq_cp)                                                                                   \
    X(llama_memory_seq_keep)                                                                                 \
    X(llama_memory_seq_add)                                                                                  \
    X(llama_memory_seq_div)                                                                                  \
    X(llama_memory_seq_pos_min)                                                                              \
    X(llama_memory_seq_pos_max)                                                                              \
    X(llama_memory_can_shift)                                                                                \
    X(llama_state_get_size)                                                                                  \
    X(llama_state_get_data)                                                                                  \
    X(llama_state_set_data)                                                                                  \
    X(llama_state_save_file)                                                                                 \
    X(llama_state_load_file)                                                                                 \
    X(llama_state_seq_get_size)                                                                              \
    X(llama_state_seq_get_size_ext)                                                                          \
    X(llama_state_seq_get_data)                                                                              \
    X(llama_state_seq_get_data_ext)                                                                          \
    X(llama_state_seq_set_data)                                                                              \
    X(llama_state_seq_set_data_ext)                                                                          \
    X(llama_state_seq_save_file)                                                                             \
    X(llama_state_seq_load_file)

// Those that programs before llama.cpp 0.5 do not call, for there they are not.
#define KVFOLD_WRAPPED_SINCE_0_5(X)                                                                          \
    X(llama_process)                                                                                         \
    X(llama_batch_ext_free)                                                                                  \
    X(llama_batch_ext_clear)                                                                                 \
    X(llama_batch_ext_add)                                                                                   \
    X(llama_batch_ext_add_token)                                                                             \
    X(llama_batch_ext_add_embd)                                                                              \
    X(llama_batch_ext_add_seq)                                                                               \
    X(llama_batch_ext_set_embd_token)                                                                        \
    X(llama_batch_ext_set_embd_state)                                                                        \
    X(llama_batch_ext_set_output_embd)                                                                       \
    X(llama_batch_ext_set_output_logits)                                                                     \
    X(llama_batch_ext_set_pos)

#define KVFOLD_WRAPPED_FUNCTIONS(X)                                                                          \
    KVFOLD_WRAPPED_ALWAYS(X)                                                                                 \
    KVFOLD_WRAPPED_SINCE_0_5(X)

namespace kvfold::preload {

struct RealFunctions {
#define KVFOLD_MEMBER(name) decltype(&::name) name = nullptr;
    KVFOLD_WRAPPED_FUNCTIONS(KVFOLD_MEMBER)
#undef KVFOLD_MEMBER
};

// Found with dlsym(RTLD_NEXT) at the first call. Members are null when the program has not loaded llama.cpp,
// and then nobody calls the wrappers either.
const RealFunctions& real();

// Fails with the name of a function that this llama.cpp has not.
Status check_real();

// Marks the thread as running kvfold's own code, or llama.cpp's below it: wrappers called in there pass
// straight through. llama.cpp calls some of its own public functions, and kvfold's engine calls many.
class Inside {
  public:
    Inside() { ++depth_; }
    ~Inside() { --depth_; }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;
    static bool now() { return depth_ > 0; }

  private:
    static thread_local int depth_;
};

} // namespace kvfold::preload
