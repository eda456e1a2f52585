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
Status attend_block(HeadTensors& held, Index first, Index count) {
    Graph graph(held.backend);
    const Tensor queries = graph.some_rows(held.queries, first, count);
    const Tensor logits = cap(graph, graph.product(held.keys, queries), held.sizes.softcap).capped;
    const Tensor mask = held.no_cell ? graph.some_rows(held.no_cell, 0, count) : nullptr;
    const Tensor probabilities =
        ggml_soft_max_ext(graph.context(), logits, mask, /*scale=*/1, /*max_bias=*/0);
    const Tensor roots = held.roots ? graph.some_rows(held.roots, first, count) : nullptr;
    const Tensor counted = times_roots(graph, probabilities, roots);
    graph.store(graph.product(held.values, counted), graph.some_rows(held.output, first, count));
    // Not into rows of one float: some backends take such a copy for a transposed one.
    const HeadSizes& of = held.sizes;
    graph.store(graph.shaped(log_mass(graph, logits, probabilities), count, 1, of.heads),
                graph.some_columns(graph.shaped(held.mass, of.queries, 1, of.heads), first, count));

    Tensor squares = graph.sum_columns(graph.square(counted));
    if (first > 0) squares = graph.add(squares, held.score);
    if (first + count == held.sizes.queries)
        squares = graph.root(graph.scale(squares, 1 / static_cast<float>(held.sizes.queries)));
    graph.store(squares, held.score);
    return graph.compute();
}

} // namespace

Status attend_all(HeadTensors& held) {
    for (Index first = 0; first < held.sizes.queries; first += held.block)
        KVFOLD_CHECK(attend_block(held, first, std::min(held.block, held.sizes.queries - first)));
    return {};
}

Status divide_by_size(HeadTensors& held) {
    {
        Graph graph(held.backend);
        graph.store(graph.sum_of_head(graph.square(held.output)), held.errors);
        KVFOLD_CHECK(graph.compute());
    }
    std::vector<float> unit = read(held.errors);
    for (float& each : unit) {
        const float square = each / static_cast<float>(held.sizes.queries);
        each = 1 / std::sqrt(std::max(square, std::numeric_limits<float>::min()));
    }
    write(held.unit, unit);
    Graph graph(held.backend);
    graph.store(graph.multiply(held.output, held.unit), held.output);
    graph.store(graph.multiply(held.values, held.unit), held.values);
    return graph.compute();
}

Tensor times_roots(Graph& graph, Tensor matrix, Tensor roots) {
    return roots ? graph.multiply(matrix, roots) : matrix;
}

Tensor roots_of_columns(Graph& graph, const HeadTensors& held) {
    return held.roots ? graph.shaped(held.roots, held.sizes.queries, 1, held.sizes.heads) : nullptr;
}

Tensor mass_shares(Graph& graph, const HeadTensors& held, Tensor keys) {
    const HeadSizes& of = held.sizes;
    const Tensor logits = cap(graph, graph.product(held.queries, keys), of.softcap).capped;
    const Tensor mass = graph.shaped(held.mass, of.queries, 1, of.heads);
    const Tensor shares = graph.exp(graph.clamp(graph.subtract(logits, mass), kLowestLogit, 0));
    return times_roots(graph, shares, roots_of_columns(graph, held));
}

Tensor shares_times_roots(Graph& graph, const HeadTensors& held, Tensor shares) {
    return graph.sum_rows(times_roots(graph, shares, roots_of_columns(graph, held)));
}

CompactAttention attend_compact(Graph& graph, const HeadTensors& held, Tensor queries, Tensor mass) {
    const Logits found = cap(graph, graph.product(held.compact_keys, queries), held.sizes.softcap);
    const Tensor logits = held.no_slot ? graph.add(found.capped, held.no_slot) : found.capped;
    const Tensor probabilities = ggml_soft_max(graph.context(), logits);
    return {probabilities, graph.subtract(log_mass(graph, logits, probabilities), mass), found.slope};
}

} // namespace kvfold::device
