#include "study/query_tap.h"

#include "model/attention_node.h"

#include <ggml-backend.h>

#include <algorithm>
#include <cstring>

namespace kvfold {

Index read_queries(const ggml_tensor* node, Index step, MutableMatrixView rows) {
    const ggml_tensor* q = node->src[kQuerySource];
    const Index d = q->ne[0], tokens = q->ne[1], heads = q->ne[2];
    // One transfer for the whole node, then gather: on a device a transfer a row would be far slower.
    std::vector<uint8_t> bytes(ggml_nbytes(q));
    ggml_backend_tensor_get(q, bytes.data(), 0, bytes.size());
    for (Index token = 0; token < tokens; ++token) {
        for (Index head = 0; head < heads; ++head) {
            const size_t offset =
                static_cast<size_t>(token) * q->nb[1] + static_cast<size_t>(head) * q->nb[2];
            std::memcpy(rows.row(token * step).data() + head * d, bytes.data() + offset,
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
        filled_.emplace_back();
    }
}

Index QueryTap::tokens_filled() const {
    const auto fewest = std::ranges::min_element(filled_, {}, &Filled::tokens);
    return fewest == filled_.end() ? 0 : fewest->tokens;
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
    if (!open_) return false;
    const int layer = cache_layer(node);
    return layer >= 0 && static_cast<size_t>(layer) < slot_of_layer_.size() &&
           slot_of_layer_[static_cast<size_t>(layer)] >= 0;
}

void QueryTap::record(const ggml_tensor* node) {
    const auto slot = static_cast<size_t>(slot_of_layer_[static_cast<size_t>(cache_layer(node))]);
    auto& [rows, readers] = study_.layers[slot];
    auto& [tokens, reader] = filled_[slot];
    const Index count = node->src[kQuerySource]->ne[1];
    if ((tokens + count) * readers > rows.rows()) return; // more than was announced: the rest is not wanted
    const Index first = tokens * readers + reader;
    read_queries(node, readers, rows.middleRows(first, (count - 1) * readers + 1));
    reader = (reader + 1) % readers;
    if (reader == 0) tokens += count;
}

bool QueryTap::callback(ggml_tensor* node, bool ask, void* tap) {
    auto* self = static_cast<QueryTap*>(tap);
    const auto read = [&] {
        if (!self->wants(node)) return !ask; // asked: not needed; told: go on
        if (!ask) self->record(node);
        return true;
    };
    return self->kept_.keep(read, false);
}

} // namespace kvfold
