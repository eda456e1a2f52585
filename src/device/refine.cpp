#include "device/refine.h"

#include "device/attention.h"
#include "device/values.h"
#include "solve/loss.h"
#include "solve/refine.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace kvfold::device {
namespace {

struct Moved {
    Tensor place, mean, square, rate; // what moves, and Adam's two means of its gradient
};

// Adam (arXiv 1412.6980). A common factor of the gradient and of its past does not matter to it.
void step(Graph& graph, const HeadTensors& held, const Moved& moved, Tensor gradient) {
    const Tensor mean = graph.add(graph.scale(moved.mean, kMeanDecay), graph.scale(gradient, 1 - kMeanDecay));
    const Tensor square = graph.add(graph.scale(moved.square, kSquareDecay),
                                    graph.scale(graph.square(gradient), 1 - kSquareDecay));
    const Tensor size = graph.clamp(graph.root(graph.multiply(square, held.square_bias)), kTinyStep, 1e30f);
    const Tensor change = graph.multiply(graph.divide(mean, size), moved.rate);
    const Tensor next = graph.subtract(moved.place, change);
    graph.store(next, moved.place);
    graph.store(mean, moved.mean);
    graph.store(square, moved.square);
}

// One step over the queries of held.batch: reads compact_keys and fitted, and moves them.
void build_step(Graph& graph, HeadTensors& held) {
    const Tensor queries = graph.rows(held.queries, held.batch);
    const Tensor wanted = graph.rows(held.output, held.batch);
    const Tensor mass = graph.rows(held.mass, held.batch);
    const CompactAttention compact = attend_compact(graph, held, queries, mass);
    const Tensor P = compact.probabilities;                                         // P' (solve/refine.h)
    const Tensor output = graph.product(held.fitted, P);                            // [dv, b, h]
    const Tensor roots = held.roots ? graph.rows(held.roots, held.batch) : nullptr; // [1, b, h]
    const Tensor missed = graph.subtract(times_roots(graph, output, roots), wanted);
    const Tensor error = times_roots(graph, missed, roots);
    const Tensor counted = times_roots(graph, times_roots(graph, compact.gained, roots), roots);

    const Tensor by_query = graph.transposed(P);                                    // [b, t, h]
    const Tensor value_gradient = graph.product(by_query, graph.transposed(error)); // [t, dv, h]

    // dL/dP' less its mean over P', with what the mass wants: all of it is a product, the same for every key
    // of a query being one more column of the error.
    const Tensor level = graph.subtract(graph.scale(counted, kMassWeight),
                                        graph.sum_rows(graph.multiply(error, output))); // [1, b, h]
    const Tensor pull =
        graph.product(graph.joined(graph.transposed(held.fitted), held.first_of_register),
                      graph.joined(error, graph.filled(level, kRegister, level->ne[1]))); // [t, b, h]
    Tensor logit_gradient = graph.multiply(P, pull);
    if (compact.slope) logit_gradient = graph.multiply(logit_gradient, compact.slope);
    const Tensor key_gradient =
        graph.product(graph.transposed(queries), graph.transposed(logit_gradient)); // [d, t, h]

    step(graph, held, {held.compact_keys, held.key_mean, held.key_square, held.key_rate}, key_gradient);
    step(graph, held, {held.fitted, held.value_mean, held.value_square, held.value_rate}, value_gradient);
}

void clear(Tensor tensor) { write(tensor, std::vector<float>(static_cast<size_t>(ggml_nelements(tensor)))); }

// L of each head, from the sums of squares.
std::vector<float> losses(const HeadTensors& held) {
    std::vector<float> loss = read(held.errors);
    const std::vector<float> mass = read(held.mass_errors);
    for (size_t i = 0; i < loss.size(); ++i)
        loss[i] = (loss[i] + kMassWeight * mass[i]) / static_cast<float>(held.sizes.queries);
    return loss;
}

// What one step at the full rate changes a key and a value of each head by.
struct Rates {
    std::vector<float> key, value;
};

Rates rates_of(const HeadTensors& held, std::span<const HeadProblem> problems,
               const std::vector<float>& loss) {
    const std::vector<float> values = read(held.fitted);
    const size_t each = values.size() / problems.size();
    const auto elements = static_cast<float>(held.sizes.kept * held.sizes.value_width);
    Rates rates;
    for (size_t i = 0; i < problems.size(); ++i) {
        const Eigen::Map<const Vector> of_head(values.data() + i * each, static_cast<Index>(each));
        rates.key.push_back(refine_key_rate(problems[i], loss[i]));
        rates.value.push_back(refine_value_rate(of_head.squaredNorm() / elements, loss[i]));
    }
    return rates;
}

std::vector<float> times(std::vector<float> values, float factor) {
    for (float& value : values)
        value *= factor;
    return values;
}

} // namespace

Status refine_keys(HeadTensors& held, std::span<const HeadProblem> problems, int steps) {
    const HeadSizes& of = held.sizes;
    KVFOLD_CHECK(fit_values(held));
    const std::vector<float> before = losses(held);
    const std::vector<Matrix> given = read_keys(held);
    const Rates rates = rates_of(held, problems, before);
    for (const Tensor tensor : {held.key_mean, held.key_square, held.value_mean, held.value_square})
        clear(tensor);

    const Index count = refine_steps_for(steps, of.kept);
    RefineOrder order(of.queries);
    {
        Graph graph(held.backend);
        build_step(graph, held);
        for (Index i = 0; i < count; ++i) {
            std::vector<int32_t> rows;
            for (const Index row : order.draw())
                rows.push_back(static_cast<int32_t>(row));
            std::vector<int32_t> of_all;
            for (Index head = 0; head < of.heads; ++head)
                of_all.insert(of_all.end(), rows.begin(), rows.end());
            write(held.batch, of_all);
            const auto taken = static_cast<float>(i + 1);
            const float rate = refine_share_of_rate(i, count) / (1 - std::pow(kMeanDecay, taken));
            write(held.key_rate, times(rates.key, rate));
            write(held.value_rate, times(rates.value, rate));
            write(held.square_bias, std::vector<float>{1 / (1 - std::pow(kSquareDecay, taken))});
            KVFOLD_CHECK(graph.compute());
        }
    }
    KVFOLD_CHECK(measure(held));
    const std::vector<float> after = losses(held);
    std::vector<Matrix> moved = read_keys(held);
    for (size_t i = 0; i < moved.size(); ++i)
        if (!(after[i] < before[i]) || !moved[i].allFinite()) moved[i] = given[i];
    write_keys(held, moved);
    return {};
}

} // namespace kvfold::device
