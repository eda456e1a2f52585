#include "device/attention.h"

#include "solve/attention.h"

#include <algorithm>

namespace kvfold::device {
namespace {

// exp of more than this is too large to be squared; nothing that is worth keeping comes near.
constexpr float kHighestLogit = 40;

Tensor capped(Graph& graph, Tensor logits, float softcap, Tensor* slope) {
    if (slope) *slope = nullptr;
    if (softcap == 0) return logits;
    const Tensor tanh = graph.tanh(graph.scale(logits, 1 / softcap));
    if (slope) *slope = ggml_scale_bias(graph.context(), graph.square(tanh), -1, 1);
    return graph.scale(tanh, softcap);
}

// Of one block of queries.
Status attend_block(LayerTensors& layer, Index first, Index count) {
    const LayerSizes& of = layer.sizes;
    const Index h = of.heads, T = of.padded_cells();
    Graph graph(layer.backend);
    const Tensor queries = graph.some_rows(layer.queries, first, count);
    const Tensor logits = capped(graph, graph.product(layer.keys, queries), of.softcap, nullptr);
    const Tensor mask = layer.no_cell ? graph.some_rows(layer.no_cell, 0, count) : nullptr;
    const Tensor probabilities = ggml_soft_max_ext(graph.context(), logits, mask, /*scale=*/1, /*max_bias=*/0);

    graph.store(graph.product(layer.values, probabilities), graph.some_rows(layer.output, first, count));

    // S_ij - log P_ij is m_i for any j. The most probable cell is the one that loses no digits.
    const Tensor best =
        graph.shaped(ggml_argmax(graph.context(), ggml_reshape_2d(graph.context(), probabilities, T, count * h)), 1,
                     count * h, 1);
    const Tensor logit = graph.rows(graph.shaped(logits, 1, T, count * h), best);
    const Tensor highest = graph.rows(graph.shaped(probabilities, 1, T, count * h), best);
    graph.store(graph.shaped(graph.subtract(logit, graph.log(highest)), 1, count, h),
                graph.some_rows(layer.mass, first, count));

    Tensor squares = graph.sum_columns(graph.square(probabilities));
    if (first > 0) squares = graph.add(squares, layer.score);
    if (first + count == of.queries) squares = graph.root(graph.scale(squares, 1 / static_cast<float>(of.queries)));
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
        graph.store(graph.sum_of_head(graph.square(layer.output)), layer.loss);
        KVFOLD_CHECK(graph.compute());
    }
    std::vector<float> unit = read(layer.loss);
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

Tensor relative_logits(Graph& graph, Tensor keys, Tensor queries, Tensor mass, float softcap, Tensor* slope) {
    const Tensor logits = capped(graph, graph.product(keys, queries), softcap, slope);
    return graph.clamp(graph.subtract(logits, mass), kLowestLogit, kHighestLogit);
}

Tensor mass_shares(Graph& graph, const LayerTensors& layer, Tensor keys) {
    const LayerSizes& of = layer.sizes;
    const Tensor logits = capped(graph, graph.product(layer.queries, keys), of.softcap, nullptr);
    const Tensor mass = graph.shaped(layer.mass, of.queries, 1, of.heads);
    return graph.exp(graph.clamp(graph.subtract(logits, mass), kLowestLogit, kHighestLogit));
}

CompactAttention attend_compact(Graph& graph, Tensor logits) {
    const Tensor exponentials = graph.exp(logits);
    const Tensor sums = graph.sum_rows(exponentials);
    return {graph.divide(exponentials, sums), graph.log(sums)};
}

} // namespace kvfold::device
