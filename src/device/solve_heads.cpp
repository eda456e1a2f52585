#include "device/solve_heads.h"

#include "base/parallel.h"
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

using Cells = std::vector<std::vector<uint32_t>>; // [heads] t rising cells

// Leaves in held.kept where the kept cells' shares are: among the candidates where cells are pursued, else
// the cells themselves.
Result<Cells> choose_cells(HeadTensors& held, const SolvePlan& plan, const SolveRequest& request) {
    const HeadSizes& of = held.sizes;
    const std::vector<float> scores = read(held.score);
    if (!all_finite(scores)) return fail(ErrorCode::numeric, "head: attention is not finite on the device");
    const Index by_score = cells_by_score(plan.pursued, request);
    Cells chosen;
    std::vector<std::vector<uint32_t>> candidates;
    for (Index head = 0; head < of.heads; ++head) {
        const Vector score =
            Eigen::Map<const Vector>(&scores[static_cast<size_t>(head * of.padded_cells())], of.cells);
        chosen.push_back(select_cells(score, by_score, request.pinned));
        if (of.candidates > 0) candidates.push_back(select_cells(score, of.candidates, chosen.back()));
    }
    std::vector<int32_t> kept;
    if (of.candidates > 0) {
        KVFOLD_TRY(const auto positions, pursue(held, candidates, chosen));
        for (size_t i = 0; i < positions.size(); ++i) {
            chosen[i].clear();
            for (const int32_t position : positions[i])
                chosen[i].push_back(candidates[i][static_cast<size_t>(position)]);
            kept.insert(kept.end(), positions[i].begin(), positions[i].end());
        }
    } else {
        for (const auto& cells : chosen)
            kept.insert(kept.end(), cells.begin(), cells.end());
    }
    write(held.kept, kept);
    return chosen;
}

// Weighs the kept cells, and lets their keys absorb the weights.
Status weigh(HeadTensors& held, std::span<const AbsorbDirection> directions, std::span<Matrix> keys) {
    const HeadSizes& of = held.sizes;
    Tensors of_kept(held.backend);
    const Tensor shares = of_kept.floats(of.queries, of.slots(), of.heads);
    const Tensor gram = of_kept.floats(of.slots(), of.slots(), of.heads);
    KVFOLD_CHECK(of_kept.allocate());
    {
        Graph graph(held.backend);
        Tensor of_cells = of.candidates > 0 ? graph.rows(held.shares, held.kept)
                                            : mass_shares(graph, held, graph.rows(held.keys, held.kept));
        of_cells = graph.filled(of_cells, of.queries, of.slots());
        graph.store(of_cells, shares);
        if (of.candidates > 0) {
            // Rows, and of their transpose the rows again: the Gram matrix of the pursuit has it all.
            const Tensor rows = graph.transposed(graph.rows(held.first_gram, held.kept));
            graph.store(graph.filled(graph.rows(rows, held.kept), of.slots(), of.slots()), gram);
        } else {
            graph.store(graph.product(of_cells, of_cells), gram);
        }
        KVFOLD_CHECK(graph.compute());
    }
    KVFOLD_CHECK(fit_weights(held, shares, gram));
    return absorb_weights(held, directions, keys, shares);
}

// Output is divided by y, so that ||Y|| is the root of n.
void read_errors(const HeadTensors& held, std::vector<CompactHead>& heads) {
    const auto queries = static_cast<float>(held.sizes.queries);
    const std::vector<float> output = read(held.errors), mass = read(held.mass_errors);
    for (size_t i = 0; i < heads.size(); ++i) {
        heads[i].output_error = std::sqrt(output[i] / queries);
        heads[i].mass_error = std::sqrt(mass[i] / queries);
    }
}

// The heads from `first` on, `count` of them.
Result<std::vector<CompactHead>> solve_chunk(Backend& backend, const PreparedHeads& prepared, size_t first,
                                             size_t count, const SolvePlan& plan,
                                             const SolveRequest& request) {
    const Heads problems = prepared.heads.subspan(first, count);
    std::span<const AbsorbDirection> directions(prepared.directions);
    if (plan.fit_bias) directions = directions.subspan(first, count);
    HeadTensors held(backend, sizes_of(problems, plan, request));
    KVFOLD_CHECK(held.allocate());
    KVFOLD_CHECK(upload(held, prepared.packed, static_cast<Index>(first)));
    KVFOLD_CHECK(attend_all(held));
    KVFOLD_CHECK(divide_by_size(held));
    KVFOLD_TRY(Cells chosen, choose_cells(held, plan, request));

    std::vector<Matrix> keys(count), values(count);
    parallel_for(count, backend.threads(), [&](size_t i) {
        keys[i] = problems[i].keys(chosen[i], Eigen::all);
        values[i] = problems[i].values(chosen[i], Eigen::all);
        return true;
    });
    write_values(held, held.chosen, values);
    if (plan.fit_bias) KVFOLD_CHECK(weigh(held, directions, keys));
    if (plan.refine_steps > 0) {
        write_keys(held, keys);
        KVFOLD_CHECK(refine_keys(held, problems, plan.refine_steps));
        keys = read_keys(held);
    }
    KVFOLD_CHECK(try_parallel_for(count, backend.threads(), [&](size_t i) -> Status {
        if (request.round_keys) request.round_keys(keys[i]);
        return check_rounded(keys[i]);
    }));
    write_keys(held, keys);
    if (plan.fit_values) {
        KVFOLD_CHECK(fit_values(held));
        values = read_values(held, held.fitted);
    } else {
        write_values(held, held.fitted, values);
        KVFOLD_CHECK(measure(held));
    }
    std::vector<CompactHead> heads(problems.size());
    for (size_t i = 0; i < heads.size(); ++i) {
        heads[i].kept = std::move(chosen[i]);
        heads[i].keys = std::move(keys[i]);
        heads[i].values = std::move(values[i]);
        if (plan.fit_bias) heads[i].absorb_residual = directions[i].residual;
    }
    read_errors(held, heads);
    for (const CompactHead& head : heads)
        KVFOLD_CHECK(check_result(head));
    return heads;
}

constexpr size_t kLargestTensor = (size_t{1} << 31) - 1; // bytes: some backends count them in 32 bits

// Heads that are solved together.
size_t heads_at_once(const Backend& backend, Heads problems, const SolvePlan& plan,
                     const SolveRequest& request) {
    const size_t free = backend.free_bytes() / 2;
    const auto fits = [&](size_t count) {
        const HeadSizes sizes = sizes_of(problems.first(count), plan, request);
        return sizes.floats(backend.block_floats()) * sizeof(float) <= free &&
               static_cast<size_t>(sizes.largest()) * sizeof(float) <= kLargestTensor;
    };
    size_t count = problems.size();
    while (count > 1 && !fits(count))
        count = (count + 1) / 2;
    return count;
}

} // namespace

Result<PreparedHeads> prepare_heads(Heads heads, const SolvePlan& plan, const SolveRequest& request,
                                    int threads) {
    const bool keeps_all = request.kept == heads.front().keys.rows();
    const bool weighs = plan.fit_bias && !keeps_all;
    PreparedHeads prepared{heads, std::vector<AbsorbDirection>(weighs ? heads.size() : 0), {}};
    KVFOLD_CHECK(try_parallel_for(heads.size(), threads, [&](size_t i) -> Status {
        KVFOLD_CHECK(check_head(heads[i], request));
        if (!weighs) return {};
        KVFOLD_TRY(prepared.directions[i], fit_direction(heads[i]));
        return {};
    }));
    const bool is_enough = heads.front().queries.rows() >= kRegister; // else solve_heads says so
    if (!keeps_all && is_enough) prepared.packed = pack_heads(heads, sizes_of(heads, plan, request), threads);
    return prepared;
}

Result<std::vector<CompactHead>> solve_heads(Backend& backend, const PreparedHeads& prepared,
                                             const SolvePlan& plan, const SolveRequest& request) {
    const Heads problems = prepared.heads;
    std::vector<CompactHead> heads;
    if (request.kept == problems.front().keys.rows()) {
        for (const HeadProblem& problem : problems)
            heads.push_back(keep_all(problem));
        return heads;
    }
    if (problems.front().queries.rows() < kRegister)
        return fail(ErrorCode::unsupported, "a device needs {} queries, and there are {}", kRegister,
                    problems.front().queries.rows());
    size_t most = heads_at_once(backend, problems, plan, request);
    for (size_t first = 0; first < problems.size();) {
        const size_t count = std::min(most, problems.size() - first);
        auto solved = solve_chunk(backend, prepared, first, count, plan, request);
        if (!solved && solved.error().code == ErrorCode::memory && count > 1) {
            most = (count + 1) / 2; // somebody else took what was free
            continue;
        }
        KVFOLD_CHECK(solved);
        std::ranges::move(*solved, std::back_inserter(heads));
        first += count;
    }
    return heads;
}

} // namespace kvfold::device
