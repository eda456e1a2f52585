#include "device/bias.h"

#include "device/attention.h"
#include "solve/bias.h"

#include <cmath>

namespace kvfold::device {
namespace {

// All entries of the Gram matrix are positive, so its largest eigenvalue stands far above the others.
constexpr int kPowerSteps = 10;
constexpr float kMargin = 1.05f;

} // namespace

Status fit_weights(HeadTensors& held, Tensor shares, Tensor gram) {
    const HeadSizes& of = held.sizes;
    const float low = std::exp(static_cast<float>(-kLargestBias)),
                high = std::exp(static_cast<float>(kLargestBias));
    Graph graph(held.backend);
    const Tensor norms = graph.diagonal(gram);
    const Tensor mean = graph.scale(graph.sum_of_head(norms), 1 / static_cast<float>(of.kept));
    const Tensor lambda = graph.scale(mean, static_cast<float>(kBiasRidge));
    const Tensor linear =
        graph.add(graph.shaped(shares_times_roots(graph, held, shares), of.slots(), 1, of.heads), lambda);

    // Steps are as long as the cell's own share allows: a sink holds a thousand times what others do, and a
    // step that is right for it would leave all others where they are. The box stays a box.
    const Tensor own = graph.add(norms, lambda);
    Tensor vector = ggml_scale_bias(graph.context(), linear, 0, 1), largest = nullptr;
    for (int i = 0; i < kPowerSteps; ++i) {
        const Tensor next =
            graph.divide(graph.add(graph.product(gram, vector), graph.multiply(vector, lambda)), own);
        const auto length = [&](Tensor of_vector) {
            return graph.root(graph.sum_rows(graph.square(of_vector)));
        };
        largest = graph.divide(length(next), length(vector));
        vector = graph.divide(next, length(next));
    }
    const Tensor lipschitz = graph.multiply(own, graph.scale(largest, kMargin));

    Tensor weights = ggml_scale_bias(graph.context(), linear, 0, 1), ahead = weights; // from w = 1
    float momentum = 1;
    for (int step = 0; step < kWeightSteps; ++step) {
        const Tensor slope =
            graph.subtract(graph.add(graph.product(gram, ahead), graph.multiply(ahead, lambda)), linear);
        const Tensor next = graph.clamp(graph.subtract(ahead, graph.divide(slope, lipschitz)), low, high);
        const float next_momentum = (1 + std::sqrt(1 + 4 * momentum * momentum)) / 2;
        ahead = graph.add(next, graph.scale(graph.subtract(next, weights), (momentum - 1) / next_momentum));
        weights = next;
        momentum = next_momentum;
    }
    graph.store(weights, held.weights);
    return graph.compute();
}

} // namespace kvfold::device
