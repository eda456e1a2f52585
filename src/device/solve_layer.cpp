#include "device/solve_layer.h"

#include "device/absorb.h"
#include "device/attention.h"
#include "device/bias.h"
#include "device/pursuit.h"
#include "device/refine.h"
#include "device/values.h"
#include "solve/check_head.h"
#include "solve/omp.h"
#include "solve/refine.h"
#include "solve/select.h"

#include <algorithm>
#include <cmath>

namespace kvfold::device {
namespace {

using Heads = std::span<const HeadProblem>;

struct Chosen {
    std::vector<std::vector<uint32_t>> cells; // [heads] t rising cells
    bool among_candidates = false;            // layer.kept are positions among the candidates, whose shares are there
};

// Leaves in layer.kept where the kept cells' shares are: among the candidates, or the cells themselves.
Result<Chosen> choose_cells(LayerTensors& layer, const SolvePlan& plan, const SolveRequest& request) {
    const LayerSizes& of = layer.sizes;
    const std::vector<float> scores = read(layer.score);
    const Index by_score = cells_by_score(plan.pursued, request);
    Chosen chosen;
    std::vector<std::vector<uint32_t>> candidates;
    for (Index head = 0; head < of.heads; ++head) {
        const Vector score = Eigen::Map<const Vector>(&scores[static_cast<size_t>(head * of.padded_cells())], of.cells);
        chosen.cells.push_back(select_cells(score, by_score, request.pinned));
        if (of.candidates > 0) candidates.push_back(select_cells(score, of.candidates, chosen.cells.back()));
    }
    std::vector<int32_t> kept;
    if (of.candidates > 0) {
        KVFOLD_TRY(const auto positions, pursue(layer, candidates, chosen.cells));
        for (size_t i = 0; i < positions.size(); ++i) {
            chosen.cells[i].clear();
            for (const int32_t position : positions[i])
                chosen.cells[i].push_back(candidates[i][static_cast<size_t>(position)]);
            kept.insert(kept.end(), positions[i].begin(), positions[i].end());
        }
        chosen.among_candidates = true;
    } else {
        for (const auto& cells : chosen.cells)
            kept.insert(kept.end(), cells.begin(), cells.end());
    }
    write(layer.kept, kept);
    return chosen;
}

// Weighs the kept cells, and lets their keys absorb the weights.
Status weigh(LayerTensors& layer, std::span<const AbsorbDirection> directions, const Chosen& chosen,
             const std::vector<Matrix*>& keys) {
    const LayerSizes& of = layer.sizes;
    Tensors of_kept(layer.backend);
    const Tensor shares = of_kept.floats(of.queries, of.kept, of.heads);
    const Tensor gram = of_kept.floats(of.kept, of.kept, of.heads);
    KVFOLD_CHECK(of_kept.allocate());
    {
        Graph graph(layer.backend);
        if (chosen.among_candidates) {
            graph.store(graph.rows(layer.shares, layer.kept), shares);
            // Rows, and of their transpose the rows again: the Gram matrix of the pursuit has it all.
            graph.store(graph.rows(graph.transposed(graph.rows(layer.first_gram, layer.kept)), layer.kept), gram);
        } else {
            const Tensor of_cells = mass_shares(graph, layer, graph.rows(layer.keys, layer.kept));
            graph.store(of_cells, shares);
            graph.store(graph.product(of_cells, of_cells), gram);
        }
        KVFOLD_CHECK(graph.compute());
    }
    KVFOLD_CHECK(fit_weights(layer, shares, gram));
    return absorb_weights(layer, directions, keys, shares);
}

void write_keys(LayerTensors& layer, const std::vector<CompactHead>& heads) {
    std::vector<float> keys;
    for (const CompactHead& head : heads)
        keys.insert(keys.end(), head.keys.data(), head.keys.data() + head.keys.size());
    write(layer.compact_keys, keys);
}

void read_keys(const LayerTensors& layer, std::vector<CompactHead>& heads) {
    const std::vector<float> keys = read(layer.compact_keys);
    for (size_t i = 0; i < heads.size(); ++i)
        std::copy_n(&keys[i * static_cast<size_t>(heads[i].keys.size())], heads[i].keys.size(), heads[i].keys.data());
}

// V' from `fitted`, which is transposed and divided by y.
void read_values(const LayerTensors& layer, std::vector<CompactHead>& heads) {
    const LayerSizes& of = layer.sizes;
    const std::vector<float> values = read(layer.fitted), unit = read(layer.unit);
    for (size_t i = 0; i < heads.size(); ++i) {
        const Eigen::Map<const Matrix> transposed(&values[i * static_cast<size_t>(of.kept * of.value_width)],
                                                  of.value_width, of.kept);
        heads[i].values = transposed.transpose() / unit[i];
    }
}

void write_values(LayerTensors& layer, Tensor place, const std::vector<CompactHead>& heads) {
    const std::vector<float> unit = read(layer.unit);
    std::vector<float> values;
    for (size_t i = 0; i < heads.size(); ++i) {
        const Matrix transposed = heads[i].values.transpose() * unit[i];
        values.insert(values.end(), transposed.data(), transposed.data() + transposed.size());
    }
    write(place, values);
}

// Output is divided by y, so that ||Y|| is the root of n.
void read_errors(const LayerTensors& layer, std::vector<CompactHead>& heads) {
    const auto queries = static_cast<float>(layer.sizes.queries);
    const std::vector<float> output = read(layer.errors), mass = read(layer.mass_errors);
    for (size_t i = 0; i < heads.size(); ++i) {
        heads[i].output_error = std::sqrt(output[i] / queries);
        heads[i].mass_error = std::sqrt(mass[i] / queries);
    }
}

Result<std::vector<CompactHead>> solve_chunk(Backend& backend, Heads problems,
                                             std::span<const AbsorbDirection> directions, const SolvePlan& plan,
                                             const SolveRequest& request) {
    LayerTensors layer(backend, sizes_of(problems, plan, request));
    KVFOLD_CHECK(layer.allocate());
    upload(layer, problems);
    KVFOLD_CHECK(attend_all(layer));
    KVFOLD_CHECK(divide_by_size(layer));
    KVFOLD_TRY(Chosen chosen, choose_cells(layer, plan, request));

    std::vector<CompactHead> heads(problems.size());
    std::vector<Matrix*> keys;
    for (size_t i = 0; i < heads.size(); ++i) {
        heads[i].kept = std::move(chosen.cells[i]);
        heads[i].keys = problems[i].keys(heads[i].kept, Eigen::all);
        heads[i].values = problems[i].values(heads[i].kept, Eigen::all);
        keys.push_back(&heads[i].keys);
    }
    write_values(layer, layer.chosen, heads);
    if (plan.fit_bias) {
        KVFOLD_CHECK(weigh(layer, directions, chosen, keys));
        for (size_t i = 0; i < heads.size(); ++i)
            heads[i].absorb_residual = directions[i].residual;
    }
    write_keys(layer, heads);
    if (plan.refine_steps > 0) {
        KVFOLD_CHECK(refine_keys(layer, problems, plan.refine_steps));
        read_keys(layer, heads);
    }
    for (CompactHead& head : heads) {
        if (request.round_keys) request.round_keys(head.keys);
        KVFOLD_CHECK(check_rounded(head.keys));
    }
    write_keys(layer, heads);
    if (plan.fit_values) {
        KVFOLD_CHECK(fit_values(layer));
        read_values(layer, heads);
    } else {
        write_values(layer, layer.fitted, heads);
        KVFOLD_CHECK(measure(layer));
    }
    read_errors(layer, heads);
    for (const CompactHead& head : heads)
        KVFOLD_CHECK(check_result(head));
    return heads;
}

// Heads that are solved together.
size_t heads_at_once(const Backend& backend, Heads problems, const SolvePlan& plan, const SolveRequest& request) {
    const size_t free = backend.free_bytes() / 2;
    size_t count = problems.size();
    while (count > 1 && sizes_of(problems.first(count), plan, request).floats(backend.block_floats()) * sizeof(float) >
                            free)
        count = (count + 1) / 2;
    return count;
}

} // namespace

Result<PreparedLayer> prepare_layer(Heads heads, const SolvePlan& plan, const SolveRequest& request) {
    PreparedLayer layer{heads, {}};
    for (const HeadProblem& head : heads) {
        KVFOLD_CHECK(check_head(head, request));
        if (!plan.fit_bias || request.kept == head.keys.rows()) continue;
        KVFOLD_TRY(AbsorbDirection direction, fit_direction(head));
        layer.directions.push_back(std::move(direction));
    }
    return layer;
}

Result<std::vector<CompactHead>> solve_layer(Backend& backend, const PreparedLayer& layer, const SolvePlan& plan,
                                             const SolveRequest& request) {
    const Heads problems = layer.heads;
    std::vector<CompactHead> heads;
    if (request.kept == problems.front().keys.rows()) {
        for (const HeadProblem& problem : problems)
            heads.push_back(keep_all(problem));
        return heads;
    }
    const size_t most = heads_at_once(backend, problems, plan, request);
    for (size_t first = 0; first < problems.size(); first += most) {
        const size_t count = std::min(most, problems.size() - first);
        const std::span directions(layer.directions);
        KVFOLD_TRY(std::vector<CompactHead> solved,
                   solve_chunk(backend, problems.subspan(first, count),
                               plan.fit_bias ? directions.subspan(first, count) : directions, plan, request));
        std::ranges::move(solved, std::back_inserter(heads));
    }
    return heads;
}

} // namespace kvfold::device
