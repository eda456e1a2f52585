// The wrappers: llama.cpp's public functions by name, found before llama.cpp's own because this library is
// preloaded. Each asks whether the context is managed and else calls the original.
#include "preload/control.h"
#include "preload/log.h"
#include "preload/once.h"
#include "preload/real.h"
#include "preload/registry.h"

#include <functional>

#define KVFOLD_EXPORT extern "C" __attribute__((visibility("default")))

// macOS does not look a name up in preloaded libraries first: there a table at the end of this file says what
// stands for what. Untested; it is compiled on Linux too, so that it stays whole.
#ifdef KVFOLD_INTERPOSE
#define KVFOLD_WRAPPER(name) wrapped_##name
#else
#define KVFOLD_WRAPPER(name) name
#endif

using namespace kvfold::preload;

namespace {

// What `call` answers when the context or memory is managed; else, and where kvfold fails before it, what the
// original does. The original is called once.
template <class Key, class Call, class Own> auto on_managed(Key key, Call call, Own own) -> decltype(own()) {
    if (Inside::now()) return own();
    Once<Own> once(std::move(own));
    const std::function<decltype(own())()> original = std::ref(once);
    try {
        if (const auto managed = Registry::get().find(key)) return call(*managed, original);
    } catch (const std::exception& error) {
        log_error("internal error: {}; the program gets what llama.cpp gives", error.what());
    }
    return original();
}

// Bookkeeping beside a call that is passed on as it is.
template <class Work> void note(Work work) {
    if (Inside::now()) return;
    try {
        work();
    } catch (const std::exception& error) {
        log_error("internal error: {}", error.what());
    }
}

int32_t output_index(llama_context* ctx, int32_t index) {
    note([&] {
        if (const auto managed = Registry::get().find(ctx)) index = managed->output_index(index);
    });
    return index;
}

} // namespace

KVFOLD_EXPORT llama_model* KVFOLD_WRAPPER(llama_model_load_from_file)(const char* path,
                                                                      llama_model_params params) {
    llama_model* model = real().llama_model_load_from_file(path, params);
    note([&] { Registry::get().note_model(model, params); });
    return model;
}

KVFOLD_EXPORT llama_model* KVFOLD_WRAPPER(llama_model_load_from_splits)(const char** paths, size_t count,
                                                                        llama_model_params params) {
    llama_model* model = real().llama_model_load_from_splits(paths, count, params);
    note([&] { Registry::get().note_model(model, params); });
    return model;
}

KVFOLD_EXPORT llama_context* KVFOLD_WRAPPER(llama_init_from_model)(llama_model* model,
                                                                   llama_context_params params) {
    if (Inside::now() || model == nullptr) return real().llama_init_from_model(model, params);
    Registry& registry = Registry::get();
    llama_context_params changed = params;
    auto verdict = Registry::Verdict::pass;
    note([&] { verdict = registry.prepare(model, changed); });
    if (verdict == Registry::Verdict::refuse) return nullptr;
    if (verdict == Registry::Verdict::pass) return real().llama_init_from_model(model, params);
    llama_context* ctx = real().llama_init_from_model(model, changed);
    if (ctx == nullptr) return nullptr;
    note([&] {
        registry.manage(ctx, model, changed);
        static const bool served = [&] {
            const auto fd = registry.control_fd();
            if (fd) serve_control(registry, *fd);
            return fd.has_value();
        }();
        static_cast<void>(served);
    });
    if (registry.find(ctx)) return ctx;
    real().llama_free(ctx); // smaller than the program asked for, and nobody would fold it
    return real().llama_init_from_model(model, params);
}

KVFOLD_EXPORT void KVFOLD_WRAPPER(llama_free)(llama_context* ctx) {
    if (ctx) note([&] { Registry::get().release(ctx); });
    real().llama_free(ctx);
}

KVFOLD_EXPORT uint32_t KVFOLD_WRAPPER(llama_n_ctx)(const llama_context* ctx) {
    return on_managed(
        ctx, [](ManagedContext& m, auto&) { return m.told_n_ctx(); },
        [&] { return real().llama_n_ctx(ctx); });
}

KVFOLD_EXPORT uint32_t KVFOLD_WRAPPER(llama_n_ctx_seq)(const llama_context* ctx) {
    return on_managed(
        ctx, [](ManagedContext& m, auto&) { return m.told_n_ctx_seq(); },
        [&] { return real().llama_n_ctx_seq(ctx); });
}

KVFOLD_EXPORT uint32_t KVFOLD_WRAPPER(llama_n_batch)(const llama_context* ctx) {
    return on_managed(
        ctx, [](ManagedContext& m, auto&) { return m.told_n_batch(); },
        [&] { return real().llama_n_batch(ctx); });
}

// Batches. An extended one is noted for whichever context; a batch does not say whose it is.

KVFOLD_EXPORT int32_t KVFOLD_WRAPPER(llama_encode)(llama_context* ctx, llama_batch batch) {
    return on_managed(
        ctx, [](ManagedContext& m, auto& original) { return m.undisturbed<int32_t>(original); },
        [&] { return real().llama_encode(ctx, batch); });
}

KVFOLD_EXPORT int32_t KVFOLD_WRAPPER(llama_decode)(llama_context* ctx, llama_batch batch) {
    return on_managed(
        ctx,
        [&](ManagedContext& m, auto& original) {
            PlainBatch given(ctx, batch, original);
            return m.decode(given);
        },
        [&] { return real().llama_decode(ctx, batch); });
}

KVFOLD_EXPORT int32_t KVFOLD_WRAPPER(llama_process)(llama_context* ctx, llama_process_type type,
                                                    llama_batch_ext* batch) {
    return on_managed(
        ctx,
        [&](ManagedContext& m, auto& original) {
            if (type != LLAMA_PROCESS_TYPE_DECODE) return m.undisturbed<int32_t>(original);
            ExtendedBatch given(ctx, Registry::get().batches().entries(batch), original);
            return m.decode(given);
        },
        [&] { return real().llama_process(ctx, type, batch); });
}

KVFOLD_EXPORT void KVFOLD_WRAPPER(llama_batch_ext_free)(llama_batch_ext* batch) {
    note([&] { Registry::get().batches().free(batch); });
    real().llama_batch_ext_free(batch);
}

KVFOLD_EXPORT void KVFOLD_WRAPPER(llama_batch_ext_clear)(llama_batch_ext* batch) {
    note([&] { Registry::get().batches().clear(batch); });
    real().llama_batch_ext_clear(batch);
}

KVFOLD_EXPORT int32_t KVFOLD_WRAPPER(llama_batch_ext_add)(llama_batch_ext* batch, llama_seq_id seq_id) {
    const int32_t index = real().llama_batch_ext_add(batch, seq_id);
    note([&] { Registry::get().batches().add(batch, index, seq_id, LLAMA_TOKEN_NULL); });
    return index;
}

KVFOLD_EXPORT int32_t KVFOLD_WRAPPER(llama_batch_ext_add_token)(llama_batch_ext* batch, llama_seq_id seq_id,
                                                                llama_token id) {
    const int32_t index = real().llama_batch_ext_add_token(batch, seq_id, id);
    note([&] { Registry::get().batches().add(batch, index, seq_id, id); });
    return index;
}

KVFOLD_EXPORT int32_t KVFOLD_WRAPPER(llama_batch_ext_add_embd)(llama_batch_ext* batch, llama_seq_id seq_id,
                                                               llama_embd embd) {
    const int32_t index = real().llama_batch_ext_add_embd(batch, seq_id, embd);
    note([&] { Registry::get().batches().add(batch, index, seq_id, LLAMA_TOKEN_NULL); });
    return index;
}

KVFOLD_EXPORT bool KVFOLD_WRAPPER(llama_batch_ext_add_seq)(llama_batch_ext* batch, int32_t index,
                                                           llama_seq_id seq_id) {
    const bool added = real().llama_batch_ext_add_seq(batch, index, seq_id);
    if (added) note([&] { Registry::get().batches().add_sequence(batch, index, seq_id); });
    return added;
}

KVFOLD_EXPORT bool KVFOLD_WRAPPER(llama_batch_ext_set_embd_token)(llama_batch_ext* batch, int32_t index,
                                                                  llama_embd embd) {
    const bool set = real().llama_batch_ext_set_embd_token(batch, index, embd);
    if (set) note([&] { Registry::get().batches().set_embedding(batch, index); });
    return set;
}

KVFOLD_EXPORT bool KVFOLD_WRAPPER(llama_batch_ext_set_embd_state)(llama_batch_ext* batch, int32_t index,
                                                                  llama_embd embd) {
    const bool set = real().llama_batch_ext_set_embd_state(batch, index, embd);
    if (set) note([&] { Registry::get().batches().set_embedding(batch, index); });
    return set;
}

KVFOLD_EXPORT bool KVFOLD_WRAPPER(llama_batch_ext_set_output_embd)(llama_batch_ext* batch, int32_t index,
                                                                   bool value) {
    const bool set = real().llama_batch_ext_set_output_embd(batch, index, value);
    if (set) note([&] { Registry::get().batches().set_output(batch, index, value); });
    return set;
}

KVFOLD_EXPORT bool KVFOLD_WRAPPER(llama_batch_ext_set_output_logits)(llama_batch_ext* batch, int32_t index,
                                                                     bool value) {
    const bool set = real().llama_batch_ext_set_output_logits(batch, index, value);
    if (set) note([&] { Registry::get().batches().set_output(batch, index, value); });
    return set;
}

KVFOLD_EXPORT bool KVFOLD_WRAPPER(llama_batch_ext_set_pos)(llama_batch_ext* batch, int32_t index,
                                                           const llama_pos* pos) {
    const bool set = real().llama_batch_ext_set_pos(batch, index, pos);
    if (set) note([&] { Registry::get().batches().set_pos(batch, index, pos[0]); });
    return set;
}

// Outputs, by their index in the program's batch: the last part of a batch that was decoded in parts has
// them.

KVFOLD_EXPORT float* KVFOLD_WRAPPER(llama_get_logits_ith)(llama_context* ctx, int32_t i) {
    return real().llama_get_logits_ith(ctx, output_index(ctx, i));
}

KVFOLD_EXPORT float* KVFOLD_WRAPPER(llama_get_embeddings_ith)(llama_context* ctx, int32_t i) {
    return real().llama_get_embeddings_ith(ctx, output_index(ctx, i));
}

KVFOLD_EXPORT llama_token KVFOLD_WRAPPER(llama_get_sampled_token_ith)(llama_context* ctx, int32_t i) {
    return real().llama_get_sampled_token_ith(ctx, output_index(ctx, i));
}

KVFOLD_EXPORT float* KVFOLD_WRAPPER(llama_get_sampled_probs_ith)(llama_context* ctx, int32_t i) {
    return real().llama_get_sampled_probs_ith(ctx, output_index(ctx, i));
}

KVFOLD_EXPORT uint32_t KVFOLD_WRAPPER(llama_get_sampled_probs_count_ith)(llama_context* ctx, int32_t i) {
    return real().llama_get_sampled_probs_count_ith(ctx, output_index(ctx, i));
}

KVFOLD_EXPORT float* KVFOLD_WRAPPER(llama_get_sampled_logits_ith)(llama_context* ctx, int32_t i) {
    return real().llama_get_sampled_logits_ith(ctx, output_index(ctx, i));
}

KVFOLD_EXPORT uint32_t KVFOLD_WRAPPER(llama_get_sampled_logits_count_ith)(llama_context* ctx, int32_t i) {
    return real().llama_get_sampled_logits_count_ith(ctx, output_index(ctx, i));
}

KVFOLD_EXPORT llama_token* KVFOLD_WRAPPER(llama_get_sampled_candidates_ith)(llama_context* ctx, int32_t i) {
    return real().llama_get_sampled_candidates_ith(ctx, output_index(ctx, i));
}

KVFOLD_EXPORT uint32_t KVFOLD_WRAPPER(llama_get_sampled_candidates_count_ith)(llama_context* ctx, int32_t i) {
    return real().llama_get_sampled_candidates_count_ith(ctx, output_index(ctx, i));
}

KVFOLD_EXPORT llama_token KVFOLD_WRAPPER(llama_sampler_sample)(llama_sampler* sampler, llama_context* ctx,
                                                               int32_t i) {
    const int32_t index = output_index(ctx, i);
    const Inside inside; // it asks for the logits by this index
    return real().llama_sampler_sample(sampler, ctx, index);
}

KVFOLD_EXPORT int32_t KVFOLD_WRAPPER(llama_set_adapters_lora)(llama_context* ctx,
                                                              llama_adapter_lora** adapters, size_t count,
                                                              float* scales) {
    return on_managed(
        ctx,
        [&](ManagedContext& m, auto& original) {
            return m.set_loras({adapters, count}, {scales, count}, original);
        },
        [&] { return real().llama_set_adapters_lora(ctx, adapters, count, scales); });
}

KVFOLD_EXPORT int32_t KVFOLD_WRAPPER(llama_set_adapter_cvec)(llama_context* ctx, const float* data,
                                                             size_t size, int32_t width, int32_t first,
                                                             int32_t last) {
    return on_managed(
        ctx,
        [&](ManagedContext& m, auto& original) {
            kvfold::ControlVector control;
            if (data) control = {{data, data + size}, width, first, last};
            return m.set_control(control, original);
        },
        [&] { return real().llama_set_adapter_cvec(ctx, data, size, width, first, last); });
}

// Memory.

KVFOLD_EXPORT void KVFOLD_WRAPPER(llama_memory_clear)(llama_memory_t memory, bool data) {
    return on_managed(
        memory, [&](ManagedContext& m, auto& original) { return m.clear(original); },
        [&] { return real().llama_memory_clear(memory, data); });
}

KVFOLD_EXPORT bool KVFOLD_WRAPPER(llama_memory_seq_rm)(llama_memory_t memory, llama_seq_id seq_id,
                                                       llama_pos p0, llama_pos p1) {
    return on_managed(
        memory, [&](ManagedContext& m, auto& original) { return m.remove(seq_id, p0, p1, original); },
        [&] { return real().llama_memory_seq_rm(memory, seq_id, p0, p1); });
}

KVFOLD_EXPORT void KVFOLD_WRAPPER(llama_memory_seq_cp)(llama_memory_t memory, llama_seq_id from,
                                                       llama_seq_id to, llama_pos p0, llama_pos p1) {
    return on_managed(
        memory, [&](ManagedContext& m, auto& original) { return m.copy(from, to, p0, p1, original); },
        [&] { return real().llama_memory_seq_cp(memory, from, to, p0, p1); });
}

KVFOLD_EXPORT void KVFOLD_WRAPPER(llama_memory_seq_keep)(llama_memory_t memory, llama_seq_id seq_id) {
    return on_managed(
        memory, [&](ManagedContext& m, auto& original) { return m.keep(seq_id, original); },
        [&] { return real().llama_memory_seq_keep(memory, seq_id); });
}

KVFOLD_EXPORT void KVFOLD_WRAPPER(llama_memory_seq_add)(llama_memory_t memory, llama_seq_id seq_id,
                                                        llama_pos p0, llama_pos p1, llama_pos delta) {
    return on_managed(
        memory, [&](ManagedContext& m, auto& original) { return m.add(seq_id, p0, p1, delta, original); },
        [&] { return real().llama_memory_seq_add(memory, seq_id, p0, p1, delta); });
}

KVFOLD_EXPORT void KVFOLD_WRAPPER(llama_memory_seq_div)(llama_memory_t memory, llama_seq_id seq_id,
                                                        llama_pos p0, llama_pos p1, int divisor) {
    return on_managed(
        memory,
        [&](ManagedContext& m, auto& original) { return m.divide(seq_id, p0, p1, divisor, original); },
        [&] { return real().llama_memory_seq_div(memory, seq_id, p0, p1, divisor); });
}

KVFOLD_EXPORT llama_pos KVFOLD_WRAPPER(llama_memory_seq_pos_min)(llama_memory_t memory, llama_seq_id seq_id) {
    return on_managed(
        memory, [&](ManagedContext& m, auto& original) { return m.pos_min(seq_id, original); },
        [&] { return real().llama_memory_seq_pos_min(memory, seq_id); });
}

KVFOLD_EXPORT llama_pos KVFOLD_WRAPPER(llama_memory_seq_pos_max)(llama_memory_t memory, llama_seq_id seq_id) {
    return on_managed(
        memory, [&](ManagedContext& m, auto& original) { return m.undisturbed<llama_pos>(original); },
        [&] { return real().llama_memory_seq_pos_max(memory, seq_id); });
}

KVFOLD_EXPORT bool KVFOLD_WRAPPER(llama_memory_can_shift)(llama_memory_t memory) {
    return on_managed(
        memory, [&](ManagedContext& m, auto& original) { return m.undisturbed<bool>(original); },
        [&] { return real().llama_memory_can_shift(memory); });
}

// States.

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_get_size)(llama_context* ctx) {
    return on_managed(
        ctx, [&](ManagedContext& m, auto& original) { return m.state_size(-1, original); },
        [&] { return real().llama_state_get_size(ctx); });
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_get_data)(llama_context* ctx, uint8_t* dst, size_t size) {
    return on_managed(
        ctx,
        [&](ManagedContext& m, auto& original) {
            return m.get_state(dst, -1, LLAMA_STATE_SEQ_FLAGS_NONE, original);
        },
        [&] { return real().llama_state_get_data(ctx, dst, size); });
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_set_data)(llama_context* ctx, const uint8_t* src,
                                                          size_t size) {
    return on_managed(
        ctx,
        [&](ManagedContext& m, auto& original) {
            return m.set_all(original, [] { return std::span<const llama_token>(); });
        },
        [&] { return real().llama_state_set_data(ctx, src, size); });
}

KVFOLD_EXPORT bool KVFOLD_WRAPPER(llama_state_save_file)(llama_context* ctx, const char* path,
                                                         const llama_token* tokens, size_t count) {
    return on_managed(
        ctx, [&](ManagedContext& m, auto& original) { return m.undisturbed<bool>(original); },
        [&] { return real().llama_state_save_file(ctx, path, tokens, count); });
}

KVFOLD_EXPORT bool KVFOLD_WRAPPER(llama_state_load_file)(llama_context* ctx, const char* path,
                                                         llama_token* tokens, size_t capacity,
                                                         size_t* count) {
    return on_managed(
        ctx,
        [&](ManagedContext& m, auto& original) {
            const auto words = [&] {
                return tokens && count ? std::span<const llama_token>(tokens, *count)
                                       : std::span<const llama_token>();
            };
            return m.set_all([&] { return size_t{original()}; }, words) != 0;
        },
        [&] { return real().llama_state_load_file(ctx, path, tokens, capacity, count); });
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_seq_get_size)(llama_context* ctx, llama_seq_id seq_id) {
    return on_managed(
        ctx, [&](ManagedContext& m, auto& original) { return m.state_size(seq_id, original); },
        [&] { return real().llama_state_seq_get_size(ctx, seq_id); });
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_seq_get_size_ext)(llama_context* ctx, llama_seq_id seq_id,
                                                                  llama_state_seq_flags flags) {
    return on_managed(
        ctx, [&](ManagedContext& m, auto& original) { return m.state_size(seq_id, original); },
        [&] { return real().llama_state_seq_get_size_ext(ctx, seq_id, flags); });
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_seq_get_data)(llama_context* ctx, uint8_t* dst, size_t size,
                                                              llama_seq_id seq_id) {
    return on_managed(
        ctx,
        [&](ManagedContext& m, auto& original) {
            return m.get_state(dst, seq_id, LLAMA_STATE_SEQ_FLAGS_NONE, original);
        },
        [&] { return real().llama_state_seq_get_data(ctx, dst, size, seq_id); });
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_seq_get_data_ext)(llama_context* ctx, uint8_t* dst,
                                                                  size_t size, llama_seq_id seq_id,
                                                                  llama_state_seq_flags flags) {
    return on_managed(
        ctx, [&](ManagedContext& m, auto& original) { return m.get_state(dst, seq_id, flags, original); },
        [&] { return real().llama_state_seq_get_data_ext(ctx, dst, size, seq_id, flags); });
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_seq_set_data)(llama_context* ctx, const uint8_t* src,
                                                              size_t size, llama_seq_id seq_id) {
    return on_managed(
        ctx,
        [&](ManagedContext& m, auto& original) {
            return m.set_state({src, size}, seq_id, LLAMA_STATE_SEQ_FLAGS_NONE, original);
        },
        [&] { return real().llama_state_seq_set_data(ctx, src, size, seq_id); });
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_seq_set_data_ext)(llama_context* ctx, const uint8_t* src,
                                                                  size_t size, llama_seq_id seq_id,
                                                                  llama_state_seq_flags flags) {
    return on_managed(
        ctx,
        [&](ManagedContext& m, auto& original) {
            return m.set_state({src, size}, seq_id, flags, original);
        },
        [&] { return real().llama_state_seq_set_data_ext(ctx, src, size, seq_id, flags); });
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_seq_save_file)(llama_context* ctx, const char* path,
                                                               llama_seq_id seq_id, const llama_token* tokens,
                                                               size_t count) {
    return on_managed(
        ctx,
        [&](ManagedContext& m, auto& original) {
            return m.save_file(path, seq_id, {tokens, count}, original);
        },
        [&] { return real().llama_state_seq_save_file(ctx, path, seq_id, tokens, count); });
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_seq_load_file)(llama_context* ctx, const char* path,
                                                               llama_seq_id seq_id, llama_token* tokens,
                                                               size_t capacity, size_t* count) {
    return on_managed(
        ctx,
        [&](ManagedContext& m, auto& original) {
            return m.load_file(path, seq_id, {tokens, capacity}, count, original);
        },
        [&] { return real().llama_state_seq_load_file(ctx, path, seq_id, tokens, capacity, count); });
}

#ifdef KVFOLD_INTERPOSE
namespace {

struct Interposed {
    const void *wrapper, *original;
};

#ifdef __APPLE__
__attribute__((section("__DATA,__interpose")))
#endif
__attribute__((used)) const Interposed g_interposed[] = {
#define KVFOLD_INTERPOSED(name)                                                                              \
    {reinterpret_cast<const void*>(&wrapped_##name), reinterpret_cast<const void*>(&::name)},
    KVFOLD_WRAPPED_FUNCTIONS(KVFOLD_INTERPOSED)
#undef KVFOLD_INTERPOSED
};

} // namespace
#endif
