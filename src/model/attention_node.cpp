#include "model/attention_node.h"

#include <ggml-backend.h>

#include <cstdio>
#include <cstring>
#include <string_view>

namespace kvfold {

namespace {

const ggml_tensor* cache_tensor(const ggml_tensor* node) {
    const ggml_tensor* keys = node->src[kKeySource];
    return keys->view_src ? keys->view_src : keys;
}

// The number in "cache_k_l<number>", or -1. Where a device computes what another holds, the keys are a copy
// that ggml names after device and original: "CUDA0#cache_k_l0 (view)#0".
int layer_of_cache_tensor(const ggml_tensor* cache) {
    const char* name = std::strstr(cache->name, "cache_k_l");
    int layer = -1;
    return name && std::sscanf(name, "cache_k_l%d", &layer) == 1 ? layer : -1;
}

} // namespace

bool is_flash_attention(const ggml_tensor* node) {
    return std::string_view(ggml_op_name(node->op)) == "FLASH_ATTN_EXT";
}

int cache_layer(const ggml_tensor* node) {
    return is_flash_attention(node) ? layer_of_cache_tensor(cache_tensor(node)) : -1;
}

std::optional<AttentionLayer> read_attention_node(const ggml_tensor* node) {
    if (!is_flash_attention(node)) return std::nullopt;
    const ggml_tensor* q = node->src[kQuerySource];
    const ggml_tensor* k = node->src[kKeySource];
    const ggml_tensor* v = node->src[kValueSource];
    AttentionLayer layer;
    const ggml_tensor* cache = cache_tensor(node);
    layer.layer = layer_of_cache_tensor(cache);
    if (layer.layer < 0 || q->type != GGML_TYPE_F32) return std::nullopt;
    layer.key_width = q->ne[0];
    layer.heads = q->ne[2];
    layer.kv_heads = k->ne[2];
    layer.value_width = v->ne[0];
    float parameters[3]; // scale, max_bias, logit softcap
    std::memcpy(parameters, node->op_params, sizeof parameters);
    layer.softcap = parameters[2];
    // ggml divides the scale by the softcap inside the node's evaluation, not in its parameters.
    layer.scale = parameters[0];
    layer.alibi = parameters[1];
    layer.on_host = !cache->buffer || ggml_backend_buffer_is_host(cache->buffer);
    if (cache->buffer) layer.device = ggml_backend_buft_get_device(ggml_backend_buffer_get_type(cache->buffer));
    layer.latent = v->view_src && v->view_src == k->view_src;
    return layer;
}

std::vector<uint8_t> read_first_key(const ggml_tensor* node) {
    const ggml_tensor* cache = cache_tensor(node);
    std::vector<uint8_t> row(ggml_row_size(cache->type, cache->ne[0]));
    ggml_backend_tensor_get(cache, row.data(), 0, row.size());
    return row;
}

} // namespace kvfold
