#include "device/attention.h"

#include "solve/attention.h"

#include <algorithm>

namespace kvfold::device {
namespace {

struct Logits {
    Tensor capped;
    Tensor slope = nullptr; // derivative of the cap; null without a cap
};

Logits cap(Graph& graph, Tensor logits, float softcap) {
    if (softcap == 0) return {logits};
    const Tensor tanh = graph.tanh(graph.scale(logits, 1 / softcap));
    return {graph.scale(tanh, softcap), ggml_scale_bias(graph.context(), graph.square(tanh), -1, 1)};
}

// log-sum-exp of logits: [m, n, h], from them and their softmax: [1, n, h]. S_ij - log P_ij is m_i for any j;
// the most probable one loses no digits.
Tensor log_mass(Graph& graph, Tensor logits, Tensor probabilities) {
    const Index keys = logits->ne[0], queries = logits->ne[1], heads = logits->ne[2], rows = queries * heads;
    const Tensor best =
        ggml_argmax(graph.context(), ggml_reshape_2d(graph.context(), probabilities, keys, rows));
    const auto of_best = [&](Tensor matrix) {
        return graph.rows(graph.shaped(matrix, 1, keys, rows), graph.shaped(best, 1, rows, 1));
    };
    return graph.shaped(graph.subtract(of_best(logits), graph.log(of_best(probabilities))), 1, queries,
                        heads);
}

// Of one block of queries.
Status attend_block(LayerTensors& layer, Index first, Index count) {
    Graph graph(layer.backend);
    const Tensor queries = graph.some_rows(layer.queries, first, count);
    const Tensor logits = cap(graph, graph.product(layer.keys, queries), layer.sizes.softcap).capped;
    const Tensor mask = layer.no_cell ? graph.some_rows(layer.no_cell, 0, count) : nullptr;
    const Tensor probabilities =
        ggml_soft_max_ext(graph.context(), logits, mask, /*scale=*/1, /*max_bias=*/0);
    const Tensor roots = layer.roots ? graph.some_rows(layer.roots, first, count) : nullptr;
    const Tensor counted = times_roots(graph, probabilities, roots);
    graph.store(graph.product(layer.values, counted), graph.some_rows(layer.output, first, count));
    // Not into rows of one float: some backends take such a copy for a transposed one.
    const LayerSizes& of = layer.sizes;
    graph.store(graph.shaped(log_mass(graph, logits, probabilities), count, 1, of.heads),
                graph.some_columns(graph.shaped(layer.mass, of.queries, 1, of.heads), first, count));

    Tensor squares = graph.sum_columns(graph.square(counted));
    if (first > 0) squares = graph.add(squares, layer.score);
    if (first + count == layer.sizes.queries)
        squares = graph.root(graph.scale(squares, 1 / static_cast<float>(layer.sizes.queries)));
    graph.store(squares, layer.score);
    return graph.compute();
}

} // namespace

Status attend_all(LayerTensors& layer) {
    for (Index first = 0; first < layer.sizes.queries; first += layer.block)
        KVFOLD_CHECK(attend_block(layer, first, std::min(layer.block, layer.sizes.queries - first)));
    return {};
}

Status divide_by_size(LayerTensors& layer) {
    {
        Graph graph(layer.backend);
        graph.store(graph.sum_of_head(graph.square(layer.output)), layer.errors);
        KVFOLD_CHECK(graph.compute());
    }
    std::vector<float> unit = read(layer.errors);
    for (float& each : unit) {
        const float square = each / static_cast<float>(layer.sizes.queries);
        each = 1 / std::sqrt(std::max(square, std::numeric_limits<float>::min()));
    }
    write(layer.unit, unit);
    Graph graph(layer.backend);
    graph.store(graph.multiply(layer.output, layer.unit), layer.output);
    graph.store(graph.multiply(layer.values, layer.unit), layer.values);
    return graph.compute();
}

Tensor times_roots(Graph& graph, Tensor matrix, Tensor roots) {
    return roots ? graph.multiply(matrix, roots) : matrix;
}

Tensor roots_of_columns(Graph& graph, const LayerTensors& layer) {
    return layer.roots ? graph.shaped(layer.roots, layer.sizes.queries, 1, layer.sizes.heads) : nullptr;
}

Tensor mass_shares(Graph& graph, const LayerTensors& layer, Tensor keys) {
    const LayerSizes& of = layer.sizes;
    const Tensor logits = cap(graph, graph.product(layer.queries, keys), of.softcap).capped;
    const Tensor mass = graph.shaped(layer.mass, of.queries, 1, of.heads);
    const Tensor shares = graph.exp(graph.clamp(graph.subtract(logits, mass), kLowestLogit, 0));
    return times_roots(graph, shares, roots_of_columns(graph, layer));
}

Tensor shares_times_roots(Graph& graph, const LayerTensors& layer, Tensor shares) {
    return graph.sum_rows(times_roots(graph, shares, roots_of_columns(graph, layer)));
}

CompactAttention attend_compact(Graph& graph, const LayerTensors& layer, Tensor queries, Tensor mass) {
    const Logits found = cap(graph, graph.product(layer.compact_keys, queries), layer.sizes.softcap);
    const Tensor logits = layer.no_slot ? graph.add(found.capped, layer.no_slot) : found.capped;
    const Tensor probabilities = ggml_soft_max(graph.context(), logits);
    return {probabilities, graph.subtract(log_mass(graph, logits, probabilities), mass), found.slope};
}

} // namespace kvfold::device
