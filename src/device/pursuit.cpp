#include "device/pursuit.h"

#include "base/parallel.h"
#include "device/attention.h"
#include "solve/omp.h"
#include "solve/ridge.h"

#include <Eigen/Cholesky>

#include <algorithm>
#include <cmath>
#include <functional>

namespace kvfold::device {
namespace {

// The part of a head's problem that the candidates of one pool make among themselves, in double precision.
class Block {
  public:
    // inner: [s, s] of the pool in G, asked: [1 + dv, s] its correlations, as they lie in memory.
    Block(const float* inner, const float* asked, Index size, Index targets, double ridge)
        : inner_(Eigen::Map<const Eigen::MatrixXf>(inner, size, size).cast<double>()),
          asked_(Eigen::Map<const Eigen::MatrixXf>(asked, targets, size).cast<double>()),
          factor_(MatrixD::Zero(size, size)), targets_(MatrixD::Zero(targets, size)), ridge_(ridge) {}

    // The first `count`, whose order does not matter: at a third of the cost. False: rounding has left the
    // matrix indefinite, and nothing is taken.
    bool take_first(Index count) {
        MatrixD regularised = inner_.topLeftCorner(count, count);
        regularised.diagonal().array() += ridge_;
        const Eigen::LLT<MatrixD> cholesky(regularised);
        if (cholesky.info() != Eigen::Success) return false;
        factor_.topLeftCorner(count, count) = cholesky.matrixL();
        targets_.leftCols(count) = asked_.leftCols(count);
        cholesky.matrixU().solveInPlace<Eigen::OnTheRight>(targets_.leftCols(count)); // T U = asked
        for (Index i = 0; i < count; ++i)
            taken_.push_back(i);
        return true;
    }

    // The best of the first `count` that is left, and its gain; -1 when none is.
    std::pair<Index, double> best(Index count) const {
        std::pair<Index, double> best{-1, 0};
        for (Index i = 0; i < count; ++i) {
            if (std::find(taken_.begin(), taken_.end(), i) != taken_.end()) continue;
            const double mass = std::max(asked_(0, i), 0.0);
            const double gain =
                (mass * mass + asked_.col(i).tail(asked_.rows() - 1).squaredNorm()) / pivot(i);
            if (best.first < 0 || gain > best.second) best = {i, gain};
        }
        return best;
    }

    void take(Index i) {
        const double root = std::sqrt(pivot(i));
        const VectorD column = inner_.col(i) / root;
        const Index row = std::ssize(taken_);
        targets_.col(row) = asked_.col(i) / root;
        for (Index other = 0; other < row; ++other) // what those before explain of this one
            factor_(row, other) = explained_[static_cast<size_t>(other)][i];
        factor_(row, row) = root;
        inner_ -= column * column.transpose();
        asked_ -= targets_.col(row) * column.transpose();
        explained_.push_back(column);
        taken_.push_back(i);
    }

    const std::vector<Index>& taken() const { return taken_; }

    // inverse: [s, s], rows the taken ones in their order, targets: [1 + dv rows, s], zero elsewhere.
    void write(float* inverse, float* targets) const {
        const Index size = inner_.rows(), count = std::ssize(taken_);
        const MatrixD of_taken = factor_.topLeftCorner(count, count)
                                     .triangularView<Eigen::Lower>()
                                     .solve(MatrixD::Identity(count, count));
        Eigen::Map<Matrix> rows(inverse, size, size);
        rows.setZero();
        for (Index column = 0; column < count; ++column)
            rows.col(taken_[static_cast<size_t>(column)]).head(count) = of_taken.col(column).cast<float>();
        Eigen::Map<Matrix>(targets, targets_.rows(), size) = targets_.cast<float>();
    }

  private:
    double pivot(Index i) const { return std::max(inner_(i, i), 0.0) + ridge_; } // rounding can go below zero

    MatrixD inner_, asked_;
    MatrixD factor_;  // lower triangular, rows and columns in the order in which cells are taken
    MatrixD targets_; // columns in that order, zero behind them
    double ridge_;
    std::vector<VectorD> explained_;
    std::vector<Index> taken_;
};

// What the host knows of one head.
struct Head {
    std::vector<Index> pinned; // positions that must be taken, in blocks, before any are chosen
    std::vector<Index> chosen;
    std::vector<bool> is_taken;
    std::vector<Index> pool;
    double ridge = 0;
};

// A^T A, A^T [r, Y / y] and the shares behind them.
Status start(HeadTensors& held) {
    const HeadSizes& of = held.sizes;
    Graph graph(held.backend);
    const Tensor shares = mass_shares(graph, held, graph.rows(held.keys, held.candidates));
    graph.store(shares, held.shares);
    const Tensor gram = graph.product(shares, shares);
    graph.store(gram, held.first_gram);
    graph.store(gram, held.gram);
    const Tensor mass = graph.shaped(shares_times_roots(graph, held, shares), of.candidates, 1, of.heads);
    graph.store(mass, graph.some_rows(held.correlation, 0, 1));
    graph.store(graph.product(shares, graph.transposed(held.output)),
                graph.some_rows(held.correlation, 1, of.value_width));
    graph.store(graph.diagonal(gram), held.norms);
    return graph.compute();
}

// Takes what the last blocks chose out of everything. Nothing but the gains when there was no block yet.
Status update(HeadTensors& held, bool has_block) {
    const HeadSizes& of = held.sizes;
    Graph graph(held.backend);
    Tensor gram = held.gram, correlation = held.correlation;
    if (has_block) {
        const Tensor added = graph.product(held.inverse, held.columns); // U: [s, M, h]
        gram = graph.subtract(gram, graph.product(added, added));
        correlation = graph.subtract(correlation, graph.product(added, held.targets));
        graph.store(gram, held.gram);
        graph.store(correlation, held.correlation);
    }
    const Tensor norms = graph.diagonal(gram);
    graph.store(norms, held.norms);
    // A mass weight cannot be negative.
    const Tensor mass = ggml_cont(graph.context(), graph.some_rows(correlation, 0, 1));
    const Tensor squares = graph.square(correlation);
    const Tensor explained = graph.add(graph.square(graph.positive(mass)),
                                       graph.sum_columns(graph.some_rows(squares, 1, of.value_width)));
    const Tensor pivots = graph.add(graph.positive(norms), held.ridge);
    graph.store(graph.divide(explained, pivots), held.gains);
    return graph.compute();
}

Status gather(HeadTensors& held) {
    Graph graph(held.backend);
    const Tensor columns = graph.transposed(graph.rows(held.gram, held.pool)); // [s, M, h]
    graph.store(columns, held.columns);
    graph.store(graph.rows(columns, held.pool), held.inner);
    graph.store(graph.rows(graph.transposed(held.correlation), held.pool), held.asked);
    return graph.compute();
}

void write_pools(HeadTensors& held, const std::vector<Head>& heads) {
    std::vector<int32_t> pools;
    for (const Head& head : heads) {
        for (Index i = 0; i < held.sizes.step; ++i) // what lies behind the pool is not taken
            pools.push_back(
                i < std::ssize(head.pool) ? static_cast<int32_t>(head.pool[static_cast<size_t>(i)]) : 0);
    }
    write(held.pool, pools);
}

// `gains` of the head -> the best `count` that are left.
std::vector<Index> best_first(const Head& head, const float* gains, Index count) {
    std::vector<Index> order;
    for (Index j = 0; j < std::ssize(head.is_taken); ++j)
        if (!head.is_taken[static_cast<size_t>(j)]) order.push_back(j);
    const auto middle = order.begin() + std::min(count, std::ssize(order));
    std::partial_sort(order.begin(), middle, order.end(),
                      [&](Index a, Index b) { return gains[a] != gains[b] ? gains[a] > gains[b] : a < b; });
    order.erase(middle, order.end());
    return order;
}

// Eliminates the pools: those of all heads at once. least: [heads] gains below which a cell is dropped.
Status eliminate(HeadTensors& held, std::vector<Head>& heads, std::span<const double> least) {
    const Index s = held.sizes.step, targets = 1 + held.sizes.value_width;
    write_pools(held, heads);
    KVFOLD_CHECK(gather(held));
    const std::vector<float> inner = read(held.inner), asked = read(held.asked);
    std::vector<float> inverse(inner.size()), of_targets(asked.size());
    parallel_for(heads.size(), held.backend.threads(), [&](size_t i) {
        Head& head = heads[i];
        const size_t square = i * static_cast<size_t>(s * s), tall = i * static_cast<size_t>(s * targets);
        Block block(&inner[square], &asked[tall], s, targets, head.ridge);
        const Index count = std::ssize(head.pool);
        const bool has_all = least[i] == 0 && block.take_first(count);
        for (Index taken = 0; !has_all && taken < count; ++taken) {
            const auto [best, gain] = block.best(count);
            if (taken > 0 && gain < least[i]) break;
            block.take(best);
        }
        for (const Index cell : block.taken()) {
            head.chosen.push_back(head.pool[static_cast<size_t>(cell)]);
            head.is_taken[static_cast<size_t>(head.chosen.back())] = true;
        }
        block.write(&inverse[square], &of_targets[tall]);
        return true;
    });
    write(held.inverse, inverse);
    write(held.targets, of_targets);
    return update(held, /*has_block=*/true);
}

} // namespace

Result<std::vector<std::vector<int32_t>>> pursue(HeadTensors& held,
                                                 std::span<const std::vector<uint32_t>> candidates,
                                                 std::span<const std::vector<uint32_t>> pinned) {
    const HeadSizes& of = held.sizes;
    std::vector<int32_t> cells;
    std::vector<Head> heads(candidates.size());
    for (size_t i = 0; i < heads.size(); ++i) {
        cells.insert(cells.end(), candidates[i].begin(), candidates[i].end());
        heads[i].is_taken.resize(candidates[i].size());
        for (const uint32_t cell : pinned[i])
            heads[i].pinned.push_back(std::ranges::lower_bound(candidates[i], cell) - candidates[i].begin());
    }
    write(held.candidates, cells);
    KVFOLD_CHECK(start(held));
    const std::vector<float> norms = read(held.norms);
    if (!all_finite(norms)) return fail(ErrorCode::numeric, "head: mass shares are not finite on the device");
    std::vector<float> ridges;
    for (size_t i = 0; i < heads.size(); ++i) {
        Vector heaviest = Eigen::Map<const Vector>(&norms[i * candidates[i].size()], of.candidates);
        std::nth_element(heaviest.begin(), heaviest.begin() + (of.kept - 1), heaviest.end(),
                         std::greater<>());
        ridges.push_back(static_cast<float>(kPursuitRidge) * heaviest.head(of.kept).mean());
        heads[i].ridge = static_cast<double>(ridges.back());
    }
    write(held.ridge, ridges);

    const std::vector<double> all(heads.size(), 0.0);
    const Index given = std::ssize(heads.front().pinned);
    for (Index first = 0; first < given; first += of.step) {
        const Index count = std::min(of.step, given - first);
        for (Head& head : heads)
            head.pool.assign(head.pinned.begin() + first, head.pinned.begin() + first + count);
        KVFOLD_CHECK(eliminate(held, heads, all));
    }
    if (given == 0) KVFOLD_CHECK(update(held, /*has_block=*/false));

    const Index size = pursuit_step(of.kept);
    for (Index step = 0;; ++step) {
        const std::vector<float> gains = read(held.gains);
        if (!all_finite(gains)) return fail(ErrorCode::numeric, "head: pursuit is not finite on the device");
        std::vector<double> least(heads.size(), 0.0);
        bool is_done = true;
        for (size_t i = 0; i < heads.size(); ++i) {
            Head& head = heads[i];
            const float* of_head = &gains[i * head.is_taken.size()];
            const Index wanted = of.kept - std::ssize(head.chosen);
            head.pool = best_first(head, of_head, size + 1);
            const Index inside = std::min({size, wanted, std::ssize(head.pool)});
            if (step < kPursuitPatience && inside < std::ssize(head.pool))
                least[i] = static_cast<double>(kWorthless) * of_head[head.pool[static_cast<size_t>(inside)]];
            head.pool.resize(static_cast<size_t>(inside));
            is_done = is_done && inside == 0;
        }
        if (is_done) break;
        KVFOLD_CHECK(eliminate(held, heads, least));
    }
    std::vector<std::vector<int32_t>> kept;
    for (Head& head : heads) {
        kept.emplace_back(head.chosen.begin(), head.chosen.end());
        std::ranges::sort(kept.back());
    }
    return kept;
}

} // namespace kvfold::device
