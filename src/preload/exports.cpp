// The wrappers: llama.cpp's public functions by name, found before llama.cpp's own because this library is
// preloaded. Each asks whether the context is managed and else calls the original.
#include "preload/control.h"
#include "preload/log.h"
#include "preload/real.h"
#include "preload/registry.h"

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

// An error inside kvfold must not reach the program: it gets what the original gives.
template <class Managed, class Original>
auto guarded(Managed managed, Original original) -> decltype(original()) {
    try {
        return managed();
    } catch (const std::exception& error) {
        log_error("internal error: {}; passing the call through", error.what());
    }
    return original();
}

template <class Call, class Original, class Key>
auto on_managed(Key key, Call call, Original original) -> decltype(original()) {
    if (Inside::now()) return original();
    return guarded(
        [&] {
            const auto managed = Registry::get().find(key);
            return managed ? call(*managed) : original();
        },
        original);
}

// Bookkeeping beside a call that is passed on as it is.
template <class Work> void note(Work work) {
    if (!Inside::now()) guarded(work, [] {});
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
    const auto original = [&] { return real().llama_init_from_model(model, params); };
    if (Inside::now() || model == nullptr) return original();
    return guarded(
        [&] {
            Registry& registry = Registry::get();
            llama_context_params changed = params;
            if (!registry.prepare(model, changed)) return original();
            llama_context* ctx = real().llama_init_from_model(model, changed);
            if (ctx) registry.manage(ctx, model, changed);
            static const bool served = [&] {
                const auto fd = registry.control_fd();
                if (fd) serve_control(registry, *fd);
                return fd.has_value();
            }();
            static_cast<void>(served);
            return ctx;
        },
        original);
}

KVFOLD_EXPORT void KVFOLD_WRAPPER(llama_free)(llama_context* ctx) {
    if (ctx) note([&] { Registry::get().release(ctx); });
    real().llama_free(ctx);
}

KVFOLD_EXPORT uint32_t KVFOLD_WRAPPER(llama_n_ctx)(const llama_context* ctx) {
    return on_managed(
        ctx, [](ManagedContext& m) { return m.told_n_ctx(); }, [&] { return real().llama_n_ctx(ctx); });
}

KVFOLD_EXPORT uint32_t KVFOLD_WRAPPER(llama_n_ctx_seq)(const llama_context* ctx) {
    return on_managed(
        ctx, [](ManagedContext& m) { return m.told_n_ctx_seq(); },
        [&] { return real().llama_n_ctx_seq(ctx); });
}

KVFOLD_EXPORT int32_t KVFOLD_WRAPPER(llama_decode)(llama_context* ctx, llama_batch batch) {
    const auto original = [&] { return real().llama_decode(ctx, batch); };
    return on_managed(
        ctx, [&](ManagedContext& m) { return m.decode(entries_of(batch), original); }, original);
}

KVFOLD_EXPORT int32_t KVFOLD_WRAPPER(llama_process)(llama_context* ctx, llama_process_type type,
                                                    llama_batch_ext* batch) {
    const auto original = [&] { return real().llama_process(ctx, type, batch); };
    if (type != LLAMA_PROCESS_TYPE_DECODE) return original();
    return on_managed(
        ctx, [&](ManagedContext& m) { return m.decode(Registry::get().batches().entries(batch), original); },
        original);
}

// Batches. They are noted for whichever context; a batch does not say whose it is.

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

KVFOLD_EXPORT bool KVFOLD_WRAPPER(llama_batch_ext_set_pos)(llama_batch_ext* batch, int32_t index,
                                                           const llama_pos* pos) {
    const bool set = real().llama_batch_ext_set_pos(batch, index, pos);
    if (set) note([&] { Registry::get().batches().set_pos(batch, index, pos[0]); });
    return set;
}

// Memory.

KVFOLD_EXPORT void KVFOLD_WRAPPER(llama_memory_clear)(llama_memory_t memory, bool data) {
    on_managed(
        memory, [&](ManagedContext& m) { m.clear(data); }, [&] { real().llama_memory_clear(memory, data); });
}

KVFOLD_EXPORT bool KVFOLD_WRAPPER(llama_memory_seq_rm)(llama_memory_t memory, llama_seq_id seq_id,
                                                       llama_pos p0, llama_pos p1) {
    return on_managed(
        memory, [&](ManagedContext& m) { return m.remove(seq_id, p0, p1); },
        [&] { return real().llama_memory_seq_rm(memory, seq_id, p0, p1); });
}

KVFOLD_EXPORT void KVFOLD_WRAPPER(llama_memory_seq_cp)(llama_memory_t memory, llama_seq_id from,
                                                       llama_seq_id to, llama_pos p0, llama_pos p1) {
    on_managed(
        memory, [&](ManagedContext& m) { m.copy(from, to, p0, p1); },
        [&] { real().llama_memory_seq_cp(memory, from, to, p0, p1); });
}

KVFOLD_EXPORT void KVFOLD_WRAPPER(llama_memory_seq_keep)(llama_memory_t memory, llama_seq_id seq_id) {
    on_managed(
        memory, [&](ManagedContext& m) { m.keep(seq_id); },
        [&] { real().llama_memory_seq_keep(memory, seq_id); });
}

KVFOLD_EXPORT void KVFOLD_WRAPPER(llama_memory_seq_add)(llama_memory_t memory, llama_seq_id seq_id,
                                                        llama_pos p0, llama_pos p1, llama_pos delta) {
    const auto original = [&] { real().llama_memory_seq_add(memory, seq_id, p0, p1, delta); };
    on_managed(
        memory, [&](ManagedContext& m) { m.move_positions(seq_id, original); }, original);
}

KVFOLD_EXPORT void KVFOLD_WRAPPER(llama_memory_seq_div)(llama_memory_t memory, llama_seq_id seq_id,
                                                        llama_pos p0, llama_pos p1, int divisor) {
    const auto original = [&] { real().llama_memory_seq_div(memory, seq_id, p0, p1, divisor); };
    on_managed(
        memory, [&](ManagedContext& m) { m.move_positions(seq_id, original); }, original);
}

KVFOLD_EXPORT llama_pos KVFOLD_WRAPPER(llama_memory_seq_pos_min)(llama_memory_t memory, llama_seq_id seq_id) {
    return on_managed(
        memory, [&](ManagedContext& m) { return m.pos_min(seq_id); },
        [&] { return real().llama_memory_seq_pos_min(memory, seq_id); });
}

KVFOLD_EXPORT bool KVFOLD_WRAPPER(llama_memory_can_shift)(llama_memory_t memory) {
    return on_managed(
        memory, [&](ManagedContext& m) { return m.can_shift(); },
        [&] { return real().llama_memory_can_shift(memory); });
}

// States.

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_set_data)(llama_context* ctx, const uint8_t* src,
                                                          size_t size) {
    const auto original = [&] { return real().llama_state_set_data(ctx, src, size); };
    return on_managed(
        ctx, [&](ManagedContext& m) { return m.set_all(original); }, original);
}

KVFOLD_EXPORT bool KVFOLD_WRAPPER(llama_state_load_file)(llama_context* ctx, const char* path,
                                                         llama_token* tokens, size_t capacity,
                                                         size_t* count) {
    const auto original = [&] { return real().llama_state_load_file(ctx, path, tokens, capacity, count); };
    return on_managed(
        ctx, [&](ManagedContext& m) { return m.set_all([&] { return size_t{original()}; }) != 0; }, original);
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_seq_get_size)(llama_context* ctx, llama_seq_id seq_id) {
    return on_managed(
        ctx, [&](ManagedContext& m) { return m.state_size(seq_id, LLAMA_STATE_SEQ_FLAGS_NONE); },
        [&] { return real().llama_state_seq_get_size(ctx, seq_id); });
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_seq_get_size_ext)(llama_context* ctx, llama_seq_id seq_id,
                                                                  llama_state_seq_flags flags) {
    return on_managed(
        ctx, [&](ManagedContext& m) { return m.state_size(seq_id, flags); },
        [&] { return real().llama_state_seq_get_size_ext(ctx, seq_id, flags); });
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_seq_get_data)(llama_context* ctx, uint8_t* dst, size_t size,
                                                              llama_seq_id seq_id) {
    return on_managed(
        ctx, [&](ManagedContext& m) { return m.get_state(dst, size, seq_id, LLAMA_STATE_SEQ_FLAGS_NONE); },
        [&] { return real().llama_state_seq_get_data(ctx, dst, size, seq_id); });
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_seq_get_data_ext)(llama_context* ctx, uint8_t* dst,
                                                                  size_t size, llama_seq_id seq_id,
                                                                  llama_state_seq_flags flags) {
    return on_managed(
        ctx, [&](ManagedContext& m) { return m.get_state(dst, size, seq_id, flags); },
        [&] { return real().llama_state_seq_get_data_ext(ctx, dst, size, seq_id, flags); });
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_seq_set_data)(llama_context* ctx, const uint8_t* src,
                                                              size_t size, llama_seq_id seq_id) {
    return on_managed(
        ctx, [&](ManagedContext& m) { return m.set_state(src, size, seq_id, LLAMA_STATE_SEQ_FLAGS_NONE); },
        [&] { return real().llama_state_seq_set_data(ctx, src, size, seq_id); });
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_seq_set_data_ext)(llama_context* ctx, const uint8_t* src,
                                                                  size_t size, llama_seq_id seq_id,
                                                                  llama_state_seq_flags flags) {
    return on_managed(
        ctx, [&](ManagedContext& m) { return m.set_state(src, size, seq_id, flags); },
        [&] { return real().llama_state_seq_set_data_ext(ctx, src, size, seq_id, flags); });
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_seq_save_file)(llama_context* ctx, const char* path,
                                                               llama_seq_id seq_id, const llama_token* tokens,
                                                               size_t count) {
    return on_managed(
        ctx, [&](ManagedContext& m) { return m.save_file(path, seq_id, tokens, count); },
        [&] { return real().llama_state_seq_save_file(ctx, path, seq_id, tokens, count); });
}

KVFOLD_EXPORT size_t KVFOLD_WRAPPER(llama_state_seq_load_file)(llama_context* ctx, const char* path,
                                                               llama_seq_id seq_id, llama_token* tokens,
                                                               size_t capacity, size_t* count) {
    return on_managed(
        ctx, [&](ManagedContext& m) { return m.load_file(path, seq_id, tokens, capacity, count); },
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
