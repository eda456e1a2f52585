#include "device/values.h"

#include "device/attention.h"
#include "solve/values.h"

namespace kvfold::device {
namespace {

constexpr float kTiniest = 1e-30f, kHuge = 1e30f; // of what is divided by

// values: [t, dv, h]. Y - X V': [dv, n, h]
Tensor missing(Graph& graph, const HeadTensors& held, Tensor probabilities, Tensor values) {
    return graph.subtract(held.output, times_roots(graph, graph.product(values, probabilities), held.roots));
}

// argmin ||A Z - B||^2 + lambda ||Z||^2 of a Gram matrix [t, t, h] and A^T B [t, dv, h]. kept: of the t
// slots, those that hold a cell.
Tensor solve_ridge(Graph& graph, Tensor gram, Tensor linear, Index kept) {
    const Tensor diagonal = graph.diagonal(gram);
    const float ridge = static_cast<float>(kValueRidge) / static_cast<float>(kept);
    const Tensor lambda = graph.clamp(graph.scale(graph.sum_of_head(diagonal), ridge), kTiniest, kHuge);
    const Tensor scaling = graph.add(diagonal, lambda);
    Tensor left = linear, solution = nullptr;
    Tensor direction = graph.divide(left, scaling);
    Tensor length = graph.sum_rows(graph.multiply(left, direction)); // of what is left: [1, dv, h]
    for (int step = 0; step < kValueSteps; ++step) {
        const Tensor image = graph.add(graph.product(gram, direction), graph.multiply(direction, lambda));
        const Tensor curvature =
            graph.clamp(graph.sum_rows(graph.multiply(direction, image)), kTiniest, kHuge);
        const Tensor taken = graph.divide(length, curvature);
        const Tensor part = graph.multiply(direction, taken);
        solution = solution ? graph.add(solution, part) : part;
        left = graph.subtract(left, graph.multiply(image, taken));
        const Tensor scaled = graph.divide(left, scaling);
        const Tensor next_length = graph.sum_rows(graph.multiply(left, scaled));
        const Tensor kept = graph.divide(next_length, graph.clamp(length, kTiniest, kHuge));
        direction = graph.add(scaled, graph.multiply(direction, kept));
        length = next_length;
    }
    return solution;
}

void store_errors(Graph& graph, HeadTensors& held, const CompactAttention& compact, Tensor left) {
    graph.store(graph.sum_of_head(graph.square(left)), held.errors);
    graph.store(graph.sum_of_head(graph.square(times_roots(graph, compact.gained, held.roots))),
                held.mass_errors);
}

} // namespace

Status fit_values(HeadTensors& held) {
    Graph graph(held.backend);
    const CompactAttention compact = attend_compact(graph, held, held.queries, held.mass);
    const Tensor by_query = times_roots(graph, graph.transposed(compact.probabilities),
                                        roots_of_columns(graph, held)); // X: [n, t, h]
    const Tensor left = graph.transposed(missing(graph, held, compact.probabilities, held.chosen));
    const Tensor correction =
        solve_ridge(graph, graph.product(by_query, by_query), graph.product(by_query, left), held.sizes.kept);
    const Tensor values = graph.add(held.chosen, correction);
    graph.store(values, held.fitted);
    store_errors(graph, held, compact, missing(graph, held, compact.probabilities, values));
    return graph.compute();
}

Status measure(HeadTensors& held) {
    Graph graph(held.backend);
    const CompactAttention compact = attend_compact(graph, held, held.queries, held.mass);
    store_errors(graph, held, compact, missing(graph, held, compact.probabilities, held.fitted));
    return graph.compute();
}

} // namespace kvfold::device
