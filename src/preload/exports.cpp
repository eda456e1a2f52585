// The wrappers: llama.cpp's public functions by name, found before llama.cpp's own because this library is
// preloaded. Each asks whether the context is managed and else calls the original. Here those of models,
// contexts, memory and states; exports_batches.cpp has those of batches and outputs.
#include "preload/exports.h"
#include "preload/control.h"

#include <atomic>

using namespace kvfold::preload;

namespace {

// The first context that kvfold takes or has a reason to leave alone brings the dashboard. A probe of memory
// is none of them.
void introduce(Registry& registry) {
    if (registry.describe().is_null()) return;
    static std::atomic<bool> connected = false;
    if (!connected) connected = connect_control(registry);
}

// A struct as the program gave it, with what stands behind the fields that kvfold knows.
template <class Known> struct Whole {
    Known known;
    unsigned char rest[128];
};

// llama.cpp's function, taking the whole struct. A caller passes a struct of this size in memory, on every
// processor that llama.cpp runs on, and the function looks at as much of it as it knows.
template <class Answer, class First, class Known> auto with_whole(Answer (*function)(First, Known)) {
    return reinterpret_cast<Answer (*)(First, Whole<Known>)>(reinterpret_cast<void (*)()>(function));
}
template <class Answer, class First, class Second, class Known>
auto with_whole(Answer (*function)(First, Second, Known)) {
    return reinterpret_cast<Answer (*)(First, Second, Whole<Known>)>(reinterpret_cast<void (*)()>(function));
}

} // namespace

// These take structs by value. Where the program's llama.cpp has longer ones kvfold does nothing, and hands
// on what the program gave: its own declarations would cut the end off.

KVFOLD_EXPORT llama_model* load_model(const char* path, Whole<llama_model_params> params)
    KVFOLD_WRAPPER_NAMED(llama_model_load_from_file);
llama_model* load_model(const char* path, Whole<llama_model_params> params) {
    llama_model* model = with_whole(real().llama_model_load_from_file)(path, params);
    note([&] { Registry::get().note_model(model, params.known, path); });
    return model;
}

KVFOLD_EXPORT llama_model* load_splits(const char** paths, size_t count, Whole<llama_model_params> params)
    KVFOLD_WRAPPER_NAMED(llama_model_load_from_splits);
llama_model* load_splits(const char** paths, size_t count, Whole<llama_model_params> params) {
    llama_model* model = with_whole(real().llama_model_load_from_splits)(paths, count, params);
    note([&] { Registry::get().note_model(model, params.known, count > 0 ? paths[0] : nullptr); });
    return model;
}

KVFOLD_EXPORT llama_context* init_context(llama_model* model, Whole<llama_context_params> params)
    KVFOLD_WRAPPER_NAMED(llama_init_from_model);
llama_context* init_context(llama_model* model, Whole<llama_context_params> params) {
    const auto original = with_whole(real().llama_init_from_model);
    if (Inside::now() || model == nullptr) return original(model, params);
    Registry& registry = Registry::get();
    const bool alone = registry.managed() == nullptr;
    Whole<llama_context_params> changed = params;
    Registry::Plan plan;
    note([&] { plan = registry.prepare(model, changed.known); });
    if (plan.verdict == Registry::Verdict::refuse) return nullptr;
    if (plan.verdict == Registry::Verdict::probe) return original(model, changed);
    if (plan.verdict == Registry::Verdict::pass) {
        if (alone) note([&] { introduce(registry); });
        return original(model, params);
    }
    llama_context* ctx = original(model, changed);
    if (ctx == nullptr) return nullptr;
    note([&] {
        registry.manage(ctx, model, changed.known, plan);
        if (alone) introduce(registry);
    });
    if (registry.find(ctx)) return ctx;
    real().llama_free(ctx); // smaller than the program asked for, and nobody would fold it
    return original(model, params);
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

// Adapters.

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

KVFOLD_EXPORT void KVFOLD_WRAPPER(llama_set_causal_attn)(llama_context* ctx, bool causal) {
    return on_managed(
        ctx, [&](ManagedContext& m, auto& original) { m.set_causal(causal, original); },
        [&] { return real().llama_set_causal_attn(ctx, causal); });
}

KVFOLD_EXPORT void KVFOLD_WRAPPER(llama_set_embeddings)(llama_context* ctx, bool embeddings) {
    return on_managed(
        ctx, [&](ManagedContext& m, auto& original) { m.set_embeddings(embeddings, original); },
        [&] { return real().llama_set_embeddings(ctx, embeddings); });
}

KVFOLD_EXPORT bool KVFOLD_WRAPPER(llama_set_sampler)(llama_context* ctx, llama_seq_id seq_id,
                                                     llama_sampler* sampler) {
    return on_managed(
        ctx,
        [&](ManagedContext& m, auto& original) {
            return m.set_sampler(seq_id, sampler != nullptr, original);
        },
        [&] { return real().llama_set_sampler(ctx, seq_id, sampler); });
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
        memory,
        [&](ManagedContext& m, auto& original) { return Registry::get().pos_min(m, seq_id, original); },
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
        ctx, [&](ManagedContext& m, auto& original) { return m.state_size(-1, LLAMA_STATE_SEQ_FLAGS_NONE, original); },
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
        ctx, [&](ManagedContext& m, auto& original) { return m.save_all(original); },
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
        ctx, [&](ManagedContext& m, auto& original) { return m.state_size(seq_id, LLAMA_STATE_SEQ_FLAGS_NONE, original); },
        [&] { return real().llama_state_seq_get_size(ctx, seq_id); });
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_seq_get_size_ext)(llama_context* ctx, llama_seq_id seq_id,
                                                                  llama_state_seq_flags flags) {
    return on_managed(
        ctx, [&](ManagedContext& m, auto& original) { return m.state_size(seq_id, flags, original); },
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
