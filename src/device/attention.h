// Attention of all heads, as solve/attention.h has it for one.
#pragma once

#include "device/head_tensors.h"

namespace kvfold::device {

// score, mass and output of all cells, from keys, values and queries; in blocks of queries.
Status attend_all(HeadTensors& held);

// Divides output and values by y, which becomes 1 / unit: all that follows is of the same size for every
// head.
Status divide_by_size(HeadTensors& held);

// Rows [k, n, h] times roots [1, n, h], or columns [n, k, h] times roots [n, 1, h]; null leaves them as they
// are.
Tensor times_roots(Graph& graph, Tensor matrix, Tensor roots);

// r: [n, 1, h]; null where the heads' queries count alike.
Tensor roots_of_columns(Graph& graph, const HeadTensors& held);

// A: r_i exp(S_ij - m_i), r times the share of the full mass that each key holds: [n, m, h], queries
// innermost.
Tensor mass_shares(Graph& graph, const HeadTensors& held, Tensor keys);

// A^T r: [1, m, h]
Tensor shares_times_roots(Graph& graph, const HeadTensors& held, Tensor shares);

struct CompactAttention {
    Tensor probabilities; // P': [t, n, h], not yet times r
    Tensor gained;        // m' - m: [1, n, h]
    Tensor slope;         // derivative of the cap: [t, n, h]; null without a cap
};

// To held.compact_keys, of queries: [d, n, h] and their mass: [1, n, h].
CompactAttention attend_compact(Graph& graph, const HeadTensors& held, Tensor queries, Tensor mass);

} // namespace kvfold::device
