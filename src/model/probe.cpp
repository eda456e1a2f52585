#include "model/probe.h"

#include "base/no_throw.h"
#include "model/attention_node.h"
#include "model/context.h"
#include "model/llama_check.h"
#include "state/live_sequence.h"

#include <algorithm>

namespace kvfold {

namespace {

struct ProbedLayer {
    AttentionLayer attention;
    std::vector<uint8_t> first_key; // bytes of the first cell in the cache
};

struct Probed {
    std::vector<ProbedLayer> layers; // one an attention node
    KeptException kept;
};

bool note_attention_node(ggml_tensor* node, bool ask, void* probed) {
    auto* self = static_cast<Probed*>(probed);
    const auto note = [&] {
        const auto attention = read_attention_node(node);
        if (!attention) return !ask;
        if (!ask) self->layers.push_back({*attention, read_first_key(node)});
        return true;
    };
    return self->kept.keep(note, false);
}

Status check_kind(const llama_model* model) {
    if (llama_model_has_encoder(model) || !llama_model_has_decoder(model))
        return fail(ErrorCode::unsupported, "this is an encoder model: it keeps no context to compact");
    if (llama_model_is_recurrent(model))
        return fail(ErrorCode::unsupported,
                    "this is a recurrent model: its state does not grow, there is nothing to compact");
    if (llama_model_is_diffusion(model))
        return fail(ErrorCode::unsupported,
                    "this is a diffusion model: it keeps no causal context to compact");
    return {};
}

// Adds a layer, or one more reader to the layer whose cache it shares. The first one writes the cache, so the
// key that was noted for it is the one that the state holds.
Status merge_layer(std::vector<ProbedLayer>& layers, const ProbedLayer& probed) {
    const auto is_same_cache = [&](const ProbedLayer& layer) {
        return layer.attention.layer == probed.attention.layer;
    };
    const auto known = std::find_if(layers.begin(), layers.end(), is_same_cache);
    if (known == layers.end()) {
        layers.push_back(probed);
        return {};
    }
    AttentionLayer& writer = known->attention;
    const AttentionLayer& reader = probed.attention;
    if (reader.heads != writer.heads || reader.scale != writer.scale || reader.softcap != writer.softcap)
        return fail(ErrorCode::unsupported,
                    "layers of this model that attend differently share the cache of layer {}", writer.layer);
    ++writer.readers;
    return {};
}

// The layers of the first section in its order, matched by the bytes of their first key: the state format
// does not say which layers a section holds, the graph does not say which cache a layer uses.
Result<std::vector<AttentionLayer>> match_section(const KvSection& section,
                                                  const std::vector<ProbedLayer>& probed) {
    std::vector<AttentionLayer> layers;
    for (size_t i = 0; i < section.keys.size(); ++i) {
        const auto& bytes = section.keys[i].bytes;
        const auto is_same = [&](const ProbedLayer& layer) { return layer.first_key == bytes; };
        if (std::count_if(probed.begin(), probed.end(), is_same) != 1)
            return fail(ErrorCode::unsupported,
                        "cannot tell which attention layer uses cache {} of this model", i);
        layers.push_back(std::find_if(probed.begin(), probed.end(), is_same)->attention);
        layers.back().cache = i;
    }
    return layers;
}

// What was understood of a state goes back into llama.cpp and comes out as it was.
Status check_round_trip(llama_context* ctx, const SequenceState& state) {
    KVFOLD_CHECK(write_sequence(ctx, 0, state));
    KVFOLD_TRY(const SequenceState again, read_sequence(ctx, 0));
    if (encode_sequence(again) == encode_sequence(state)) return {};
    return fail(ErrorCode::unsupported, "this llama.cpp ({}) reads a state back otherwise than it wrote it",
                llama_version_name());
}

} // namespace

Result<AttentionMap> probe_attention(llama_model* model, llama_context_params params) {
    KVFOLD_CHECK(check_llama());
    KVFOLD_CHECK(check_kind(model));
    Probed probed;
    params.n_ctx = params.n_batch = params.n_ubatch = 32;
    params.n_seq_max = 1;
    params.n_outputs_max = 1;
    params.kv_unified = true;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    params.type_k = params.type_v = GGML_TYPE_F16;
    params.cb_eval = note_attention_node;
    params.cb_eval_user_data = &probed;
    params.abort_callback = nullptr;
    params.samplers = nullptr;
    params.n_samplers = 0;
    KVFOLD_TRY(const ContextPtr ctx, new_context(model, params));
    if (!llama_get_memory(ctx.get())) // llama_model_has_encoder knows encoder-decoder models only
        return fail(ErrorCode::unsupported, "this is an encoder model: it keeps no context to compact");

    const llama_vocab* vocab = llama_model_get_vocab(model);
    const llama_token token = std::max(llama_vocab_bos(vocab), 0);
    const Status decoded = decode_tokens(ctx.get(), {&token, 1}, 0, Outputs::none);
    probed.kept.rethrow();
    KVFOLD_CHECK(decoded);
    std::vector<ProbedLayer> caches;
    for (const ProbedLayer& layer : probed.layers) {
        if (layer.attention.latent)
            return fail(ErrorCode::unsupported,
                        "this model uses multi-head latent attention (MLA): its keys and values are one "
                        "latent vector, which cannot be fitted apart");
        KVFOLD_CHECK(merge_layer(caches, layer));
    }
    KVFOLD_TRY(const SequenceState state, read_sequence(ctx.get(), 0));
    KVFOLD_CHECK(check_round_trip(ctx.get(), state));

    AttentionMap map;
    KVFOLD_TRY(map.layers, match_section(state.sections.front(), caches));
    map.has_window = state.sections.size() > 1;
    map.has_recurrent = !state.recurrent.empty();
    map.version = state.version;
    for (const AttentionLayer& layer : map.layers) {
        if (layer.alibi > 0)
            return fail(ErrorCode::unsupported,
                        "this model uses ALiBi: its attention depends on positions that "
                        "folded cells do not have");
    }
    // The window's cache stands alone, or behind a section for the whole context that has no layers.
    if (llama_model_n_swa(model) > 0 && (!map.has_window || map.layers.empty()))
        return fail(ErrorCode::unsupported,
                    "every layer of this model slides over {} tokens: there is no long "
                    "context to compact",
                    llama_model_n_swa(model));
    return map;
}

bool can_have_cells(const AttentionMap& map, ggml_type type) {
    const Index block = ggml_blck_size(type);
    return std::ranges::all_of(map.layers, [&](const AttentionLayer& layer) {
        return layer.key_width % block == 0 && layer.value_width % block == 0;
    });
}

size_t bytes_of_cell(const AttentionMap& map, ggml_type keys, ggml_type values) {
    size_t bytes = 0;
    for (const AttentionLayer& layer : map.layers)
        bytes += ggml_row_size(keys, layer.kv_heads * layer.key_width) +
                 ggml_row_size(values, layer.kv_heads * layer.value_width);
    return bytes;
}

} // namespace kvfold
