// The wrappers of what goes into a decode and what comes out of it.
#include "preload/exports.h"

#include <dlfcn.h>

using namespace kvfold::preload;

#define KVFOLD_STAGING __attribute__((visibility("default")))

KVFOLD_STAGING void llama_set_embeddings_nextn(llama_context* ctx, bool value, bool masked);
KVFOLD_STAGING void llama_set_embeddings_layer_inp(llama_context* ctx, uint32_t layer, bool value);

namespace {

// What `original` answers for an output of the newest batch, or `kept` for one of an earlier part of it: its
// logits.
template <class Original, class Kept>
auto output(llama_context* ctx, int32_t index, Original original, Kept kept) {
    float* logits = nullptr;
    note([&] {
        const auto managed = Registry::get().find(ctx);
        if (!managed) return;
        managed->outputs([&](PartOutputs& outputs) {
            logits = outputs.find(index);
            if (!logits) index = outputs.index_in_last(index);
        });
    });
    return logits ? kept(logits) : original(ctx, index);
}

// Of outputs that llama.cpp itself may have sampled. It has not where earlier parts are kept, and says so for
// each output alike.
template <class Original> auto sampled_output(llama_context* ctx, int32_t index, Original original) {
    return output(ctx, index, original, [&](const float*) { return original(ctx, -1); });
}

// As llama.cpp's own does it, for which llama.h has the lines.
llama_token sample(llama_sampler* sampler, std::span<const float> logits) {
    std::vector<llama_token_data> candidates;
    candidates.reserve(logits.size());
    for (size_t token = 0; token < logits.size(); ++token)
        candidates.push_back({static_cast<llama_token>(token), logits[token], 0});
    llama_token_data_array array{candidates.data(), candidates.size(), -1, false};
    llama_sampler_apply(sampler, &array);
    if (array.selected < 0) return LLAMA_TOKEN_NULL; // a chain that selects none
    const llama_token token = array.data[array.selected].id;
    llama_sampler_accept(sampler, token);
    return token;
}

} // namespace

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
            ExtendedBatch given(ctx, batch, Registry::get().batches().entries(batch), original);
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
    if (set) note([&] { Registry::get().batches().set_output_embedding(batch, index, value); });
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

// Outputs, by their index in the program's batch.

KVFOLD_EXPORT float* KVFOLD_WRAPPER(llama_get_logits)(llama_context* ctx) {
    float* const last = real().llama_get_logits(ctx);
    float* all = nullptr;
    note([&] {
        if (const auto managed = Registry::get().find(ctx))
            all = managed->outputs([&](PartOutputs& outputs) { return outputs.all(last); });
    });
    return all ? all : last;
}

KVFOLD_EXPORT float* KVFOLD_WRAPPER(llama_get_logits_ith)(llama_context* ctx, int32_t i) {
    return output(ctx, i, real().llama_get_logits_ith, [](float* logits) { return logits; });
}

KVFOLD_EXPORT float* KVFOLD_WRAPPER(llama_get_embeddings_ith)(llama_context* ctx, int32_t i) {
    return output(ctx, i, real().llama_get_embeddings_ith, [](float*) -> float* { return nullptr; });
}

#define KVFOLD_SAMPLED(type, name)                                                                           \
    KVFOLD_EXPORT type KVFOLD_WRAPPER(name)(llama_context * ctx, int32_t i) {                                \
        return sampled_output(ctx, i, real().name);                                                          \
    }
KVFOLD_SAMPLED(llama_token, llama_get_sampled_token_ith)
KVFOLD_SAMPLED(float*, llama_get_sampled_probs_ith)
KVFOLD_SAMPLED(uint32_t, llama_get_sampled_probs_count_ith)
KVFOLD_SAMPLED(float*, llama_get_sampled_logits_ith)
KVFOLD_SAMPLED(uint32_t, llama_get_sampled_logits_count_ith)
KVFOLD_SAMPLED(llama_token*, llama_get_sampled_candidates_ith)
KVFOLD_SAMPLED(uint32_t, llama_get_sampled_candidates_count_ith)

KVFOLD_EXPORT llama_token KVFOLD_WRAPPER(llama_sampler_sample)(llama_sampler* sampler, llama_context* ctx,
                                                               int32_t i) {
    const auto original = [&](llama_context* context, int32_t index) {
        const Inside inside; // it asks for the logits by this index
        return real().llama_sampler_sample(sampler, context, index);
    };
    const auto kept = [&](const float* logits) {
        const llama_vocab* vocabulary = llama_model_get_vocab(llama_get_model(ctx));
        return sample(sampler, {logits, static_cast<size_t>(llama_vocab_n_tokens(vocabulary))});
    };
    return output(ctx, i, original, kept);
}

// C++ functions of llama.cpp that llama.h does not have: with them draft heads (MTP, EAGLE) ask for hidden
// states of the model that they draft for. They may be missing.

template <class Function> static Function* original_of(const char* symbol) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, symbol));
}

static void note_hidden_states(llama_context* ctx, bool gives) {
    note([&] {
        const auto managed = gives ? Registry::get().find(ctx) : nullptr;
        if (managed) managed->give_hidden_states();
    });
}

KVFOLD_STAGING void llama_set_embeddings_nextn(llama_context* ctx, bool value, bool masked) {
    note_hidden_states(ctx, value);
    const auto original =
        original_of<void(llama_context*, bool, bool)>("_Z26llama_set_embeddings_nextnP13llama_contextbb");
    if (original) original(ctx, value, masked);
}

KVFOLD_STAGING void llama_set_embeddings_layer_inp(llama_context* ctx, uint32_t layer, bool value) {
    note_hidden_states(ctx, value);
    const auto original = original_of<void(llama_context*, uint32_t, bool)>(
        "_Z30llama_set_embeddings_layer_inpP13llama_contextjb");
    if (original) original(ctx, layer, value);
}
