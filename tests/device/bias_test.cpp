#include "device/bias.h"

#include "heads.h"
#include "solve/select.h"

namespace kvfold::device {
namespace {

using reference::Column;
using reference::Table;

struct Weighed {
    std::vector<float> weights;
    std::vector<Table> shares; // of the twin
};

Weighed weigh(const TestHeads& test, Index kept, Operands operands) {
    const auto backend = test_backend(operands);
    HeadTensors held(*backend, sizes_of(test.problems, {}, {.kept = kept}));
    EXPECT_TRUE(held.allocate());
    EXPECT_TRUE(upload(held, test));
    EXPECT_TRUE(attend_all(held));
    Weighed result;
    std::vector<int32_t> cells;
    for (const HeadProblem& head : test.problems) {
        const auto full =
            reference::naive_attention(head, head.keys.cast<double>(), head.values.cast<double>());
        const auto chosen = select_cells(full.score.cast<float>(), kept, {});
        cells.insert(cells.end(), chosen.begin(), chosen.end());
        result.shares.push_back(full.probabilities(Eigen::all, chosen)); // exp(S - m) is P
    }
    write(held.kept, cells);
    Tensors place(*backend);
    const Tensor shares = place.floats(held.sizes.queries, kept, held.sizes.heads);
    const Tensor gram = place.floats(kept, kept, held.sizes.heads);
    EXPECT_TRUE(place.allocate());
    {
        Graph graph(*backend);
        const Tensor of_cells = mass_shares(graph, held, graph.rows(held.keys, held.kept));
        graph.store(of_cells, shares);
        graph.store(graph.product(of_cells, of_cells), gram);
        EXPECT_TRUE(graph.compute());
    }
    EXPECT_TRUE(fit_weights(held, shares, gram));
    result.weights = read(held.weights);
    return result;
}

// The mass that a fit misses, a query: what the weights are for.
double missed(const Table& shares, const Column& weights) {
    return std::sqrt(((shares * weights).array() - 1).square().mean());
}

void expect_weights(Operands operands, double most) {
    const TestHeads test({.cells = 256, .queries = 384});
    const Index kept = 32;
    const Weighed weighed = weigh(test, kept, operands);
    for (size_t i = 0; i < test.problems.size(); ++i) {
        const Column weights = head_of(weighed.weights, i, kept, 1).cast<double>();
        const Column best = reference::naive_weights(weighed.shares[i]);
        EXPECT_LT(missed(weighed.shares[i], weights), most * missed(weighed.shares[i], best));
        EXPECT_LT(missed(weighed.shares[i], weights), 0.7 * missed(weighed.shares[i], Column::Ones(kept)));
        EXPECT_GE(weights.minCoeff(), std::exp(-3.0) * 0.999);
        EXPECT_LE(weights.maxCoeff(), std::exp(3.0) * 1.001);
    }
}

TEST(DeviceBias, LeavesAsLittleAsTheTwin) { expect_weights(Operands::as_they_are, 1.04); }

TEST(DeviceBias, WithRoundedOperands) {
    expect_weights(Operands::eleven_bits, 1.05);
    expect_weights(Operands::halves, 1.05);
}

} // namespace
} // namespace kvfold::device
