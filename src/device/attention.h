// Attention of all heads of a layer, as solve/attention.h has it for one.
#pragma once

#include "device/layer_tensors.h"

namespace kvfold::device {

// score, mass and output of all cells, from keys, values and queries; in blocks of queries.
Status attend_all(LayerTensors& layer);

// Divides output and values by y, which becomes 1 / unit: all that follows is of the same size for every head.
Status divide_by_size(LayerTensors& layer);

// keys: [d, m, h], queries: [d, n, h], mass: [1, n, h]. Capped logits less m: [m, n, h]. slope: null, or where
// the derivative of the cap goes: [m, n, h], null without a cap.
Tensor relative_logits(Graph& graph, Tensor keys, Tensor queries, Tensor mass, float softcap,
                       Tensor* slope = nullptr);

// exp(S_ij - m_i): the share of the full mass that each key holds: [n, m, h], queries innermost.
Tensor mass_shares(Graph& graph, const LayerTensors& layer, Tensor keys);

struct CompactAttention {
    Tensor probabilities; // X: [t, n, h]
    Tensor gained;        // m' - m: [1, n, h]
};

// The softmax of relative logits.
CompactAttention attend_compact(Graph& graph, Tensor logits);

} // namespace kvfold::device
