#include "device/absorb.h"

#include "device/attention.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace kvfold::device {
namespace {

using Errors = Eigen::Array<double, kBiasQuarters + 1, 1>;

// [heads * n] of the queries that the device has.
std::vector<float> projections_of(std::span<const AbsorbDirection> directions, Index queries) {
    std::vector<float> rows;
    for (const AbsorbDirection& each : directions)
        rows.insert(rows.end(), each.projections.begin(), each.projections.begin() + queries);
    return rows;
}

// Each value as a row that fills a register, zero behind it.
std::vector<float> first_of_registers(const std::vector<float>& values) {
    std::vector<float> rows(values.size() * kRegister);
    for (size_t i = 0; i < values.size(); ++i)
        rows[i * kRegister] = values[i];
    return rows;
}

// Squared errors of the log-mass, by importance, with 0 .. 4 quarters of the bias, of each head.
// A exp(b p / 4)^k is r times the mass with k of them.
Result<std::vector<Errors>> errors_of_quarters(HeadTensors& held, Tensor shares,
                                               const std::vector<float>& bias,
                                               const std::vector<float>& projections) {
    const HeadSizes& of = held.sizes;
    Tensors given(held.backend);
    const Tensor b = given.floats(kRegister, of.slots(), of.heads);
    const Tensor u = given.floats(kRegister, of.queries, of.heads);
    std::array<Tensor, kBiasQuarters + 1> errors;
    for (Tensor& each : errors)
        each = given.floats(1, 1, of.heads);
    KVFOLD_CHECK(given.allocate());
    write(b, first_of_registers(bias));
    write(u, first_of_registers(projections));
    Graph graph(held.backend);
    const Tensor quarter = graph.exp(graph.scale(graph.product(u, b), 1.0f / kBiasQuarters)); // [n, t, h]
    const Tensor roots = roots_of_columns(graph, held);
    const Tensor log_roots = roots ? graph.log(roots) : nullptr;
    Tensor mass = shares;
    for (int k = 0; k <= kBiasQuarters; ++k) {
        if (k > 0) mass = graph.multiply(mass, quarter);
        Tensor change = graph.log(graph.sum_columns(mass)); // [n, 1, h]
        if (roots) change = graph.multiply(graph.subtract(change, log_roots), roots);
        graph.store(graph.sum_rows(graph.square(change)), errors[static_cast<size_t>(k)]);
    }
    KVFOLD_CHECK(graph.compute());
    std::vector<Errors> of_heads(static_cast<size_t>(of.heads));
    for (size_t k = 0; k < errors.size(); ++k) {
        const std::vector<float> of_share = read(errors[k]);
        for (size_t head = 0; head < of_heads.size(); ++head)
            of_heads[head][static_cast<Index>(k)] = static_cast<double>(of_share[head]);
    }
    return of_heads;
}

// The capped logits of each kept cell, weighted by its shares and r: [heads * t]
Result<std::vector<float>> mean_logits(HeadTensors& held, Tensor shares) {
    const HeadSizes& of = held.sizes;
    Tensors result(held.backend);
    const Tensor means = result.floats(1, of.slots(), of.heads);
    KVFOLD_CHECK(result.allocate());
    Graph graph(held.backend);
    const Tensor roots = roots_of_columns(graph, held);
    const Tensor counted = times_roots(graph, shares, roots);
    Tensor of_share_1 = graph.shaped(held.mass, of.queries, 1, of.heads);
    if (roots) of_share_1 = graph.subtract(of_share_1, graph.log(roots));
    const Tensor logits = graph.add(graph.log(shares), of_share_1);
    graph.store(graph.divide(graph.sum_rows(graph.multiply(counted, logits)), graph.sum_rows(counted)),
                means);
    KVFOLD_CHECK(graph.compute());
    return read(means);
}

} // namespace

Status absorb_weights(HeadTensors& held, std::span<const AbsorbDirection> directions, std::span<Matrix> keys,
                      Tensor shares) {
    std::vector<float> bias = read(held.weights);
    for (float& each : bias)
        each = std::log(each);
    const auto is_untrusted = [](const AbsorbDirection& each) { return each.residual > kTrustedResidual; };
    std::vector<Errors> errors;
    if (std::ranges::any_of(directions, is_untrusted)) {
        KVFOLD_TRY(errors,
                   errors_of_quarters(held, shares, bias, projections_of(directions, held.sizes.queries)));
    }
    std::vector<float> means;
    const float softcap = held.sizes.softcap;
    if (softcap > 0) {
        KVFOLD_TRY(means, mean_logits(held, shares));
    }
    for (size_t i = 0; i < directions.size(); ++i) {
        const AbsorbDirection& direction = directions[i];
        const auto of_head = [&, of = held.sizes](const std::vector<float>& all) -> Vector {
            return Eigen::Map<const Vector>(&all[i * static_cast<size_t>(of.slots())], of.kept);
        };
        Vector used = of_head(bias);
        if (is_untrusted(direction)) used *= static_cast<float>(best_quarters(errors[i])) / kBiasQuarters;
        if (softcap > 0) used = raise_before_cap(softcap, of_head(means), used);
        keys[i] += used * direction.direction.transpose();
    }
    return {};
}

} // namespace kvfold::device
