#include "study/query_tap.h"

#include <ggml-backend.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace kvfold {

namespace {

// Sources of a GGML_OP_FLASH_ATTN_EXT node.
constexpr int kQuery = 0, kKey = 1, kValue = 2;

// The number in "cache_k_l<number>", or -1. Where a device computes what another holds, the keys are a copy
// that ggml names after device and original: "CUDA0#cache_k_l0 (view)#0".
int layer_of_cache_tensor(const ggml_tensor* keys) {
    const ggml_tensor* cache = keys->view_src ? keys->view_src : keys;
    const char* name = std::strstr(cache->name, "cache_k_l");
    int layer = -1;
    return name && std::sscanf(name, "cache_k_l%d", &layer) == 1 ? layer : -1;
}

} // namespace

std::optional<AttentionLayer> read_attention_node(const ggml_tensor* node) {
    if (node->op != GGML_OP_FLASH_ATTN_EXT) return std::nullopt;
    const ggml_tensor* q = node->src[kQuery];
    const ggml_tensor* k = node->src[kKey];
    const ggml_tensor* v = node->src[kValue];
    AttentionLayer layer;
    layer.layer = layer_of_cache_tensor(k);
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
    layer.latent = v->view_src && v->view_src == k->view_src;
    return layer;
}

std::vector<uint8_t> read_first_key(const ggml_tensor* node) {
    const ggml_tensor* keys = node->src[kKey];
    const ggml_tensor* cache = keys->view_src ? keys->view_src : keys;
    std::vector<uint8_t> row(ggml_row_size(cache->type, cache->ne[0]));
    ggml_backend_tensor_get(cache, row.data(), 0, row.size());
    return row;
}

Index read_queries(const ggml_tensor* node, MutableMatrixView rows) {
    const ggml_tensor* q = node->src[kQuery];
    const Index d = q->ne[0], tokens = q->ne[1], heads = q->ne[2];
    // One transfer for the whole node, then gather: on a device a transfer a row would be far slower.
    std::vector<uint8_t> bytes(ggml_nbytes(q));
    ggml_backend_tensor_get(q, bytes.data(), 0, bytes.size());
    for (Index token = 0; token < tokens; ++token) {
        for (Index head = 0; head < heads; ++head) {
            const size_t offset =
                static_cast<size_t>(token) * q->nb[1] + static_cast<size_t>(head) * q->nb[2];
            std::memcpy(rows.row(token).data() + head * d, bytes.data() + offset,
                        static_cast<size_t>(d) * sizeof(float));
        }
    }
    return tokens;
}

QueryTap::QueryTap(const std::vector<AttentionLayer>& layers, Index capacity) {
    for (const AttentionLayer& layer : layers) {
        const auto number = static_cast<size_t>(layer.layer);
        if (slot_of_layer_.size() <= number) slot_of_layer_.resize(number + 1, -1);
        slot_of_layer_[number] = static_cast<int>(study_.layers.size());
        study_.layers.push_back(
            {Matrix(capacity * layer.readers, layer.heads * layer.key_width), layer.readers});
        filled_.push_back(0);
    }
}

Index QueryTap::tokens_filled() const {
    Index tokens = filled_.empty() ? 0 : filled_.front() / study_.layers.front().readers;
    for (size_t slot = 0; slot < filled_.size(); ++slot)
        tokens = std::min(tokens, filled_[slot] / study_.layers[slot].readers);
    return tokens;
}

Study QueryTap::take() {
    const Index tokens = tokens_filled();
    for (LayerQueries& layer : study_.layers)
        layer.rows.conservativeResize(tokens * layer.readers, Eigen::NoChange);
    slot_of_layer_.clear(); // nothing is left to fill
    filled_.clear();
    return std::move(study_);
}

bool QueryTap::wants(const ggml_tensor* node) const {
    if (!open_ || node->op != GGML_OP_FLASH_ATTN_EXT) return false;
    const int layer = layer_of_cache_tensor(node->src[kKey]);
    return layer >= 0 && static_cast<size_t>(layer) < slot_of_layer_.size() &&
           slot_of_layer_[static_cast<size_t>(layer)] >= 0;
}

void QueryTap::record(const ggml_tensor* node) {
    const int layer = layer_of_cache_tensor(node->src[kKey]);
    const auto slot = static_cast<size_t>(slot_of_layer_[static_cast<size_t>(layer)]);
    Matrix& rows = study_.layers[slot].rows;
    Index& filled = filled_[slot];
    const Index tokens = node->src[kQuery]->ne[1];
    if (filled + tokens > rows.rows()) return; // more than was announced: the rest is not wanted
    filled += read_queries(node, rows.middleRows(filled, tokens));
}

bool QueryTap::callback(ggml_tensor* node, bool ask, void* tap) {
    auto* self = static_cast<QueryTap*>(tap);
    if (!self->wants(node)) return !ask; // asked: not needed; told: go on
    if (!ask) self->record(node);
    return true;
}

} // namespace kvfold
