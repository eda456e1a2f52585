#include "solve/omp.h"

#include "solve/select.h"

#include <Eigen/Cholesky>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

namespace kvfold {
namespace {

// B: [n, 1 + dv]. Without the output where it is zero or overflows: solve_head reports that later.
Matrix targets_of(const FullAttention& full) {
    const double square = full.output.cast<double>().squaredNorm() / static_cast<double>(full.output.rows());
    const bool usable = square > 0 && std::isfinite(square);
    Matrix targets(full.output.rows(), 1 + (usable ? full.output.cols() : 0));
    targets.col(0) = full.roots;
    if (usable) {
        targets.rightCols(full.output.cols()) =
            (full.output.cast<double>() / std::sqrt(square)).cast<float>();
    }
    return targets;
}

// Numbers within are positions among the candidates.
class Pursuit {
  public:
    Pursuit(const Matrix& shares, const Matrix& targets, Index kept)
        : gram_(Eigen::MatrixXf::Zero(shares.cols(), shares.cols())),
          correlation_(shares.cols(), targets.cols()), factor_(shares.cols(), kept),
          taken_(static_cast<size_t>(shares.cols()), false) {
        gram_.selfadjointView<Eigen::Lower>().rankUpdate(shares.transpose());
        gram_.triangularView<Eigen::StrictlyUpper>() = gram_.transpose();
        norm_ = gram_.diagonal();
        correlation_.noalias() = shares.transpose() * targets;
        Vector heaviest = norm_;
        std::nth_element(heaviest.begin(), heaviest.begin() + (kept - 1), heaviest.end(), std::greater<>());
        lambda_ = static_cast<float>(kPursuitRidge) * heaviest.head(kept).mean();
    }

    Index wanted() const { return factor_.cols() - std::ssize(chosen_); }
    const std::vector<Index>& chosen() const { return chosen_; }
    MatrixD gram(const std::vector<Index>& cells) const { return gram_(cells, cells).cast<double>(); }

    // As `take` of one after the other, their order being of no consequence. REQUIRES: nothing chosen yet.
    void take_all(const std::vector<Index>& cells) {
        Eigen::MatrixXf columns = project(cells);
        Eigen::MatrixXd inner = columns(cells, Eigen::all).cast<double>();
        inner.diagonal().array() += static_cast<double>(lambda_);
        const Eigen::LLT<Eigen::MatrixXd> cholesky(inner);
        const Eigen::MatrixXf upper = Eigen::MatrixXd(cholesky.matrixU()).cast<float>();
        upper.triangularView<Eigen::Upper>().solveInPlace<Eigen::OnTheRight>(columns);
        Matrix targets = correlation_(cells, Eigen::all);
        upper.transpose().triangularView<Eigen::Lower>().solveInPlace(targets);
        correlation_.noalias() -= columns * targets;
        norm_ -= columns.rowwise().squaredNorm();
        factor_.leftCols(std::ssize(cells)) = columns;
        chosen_ = cells;
        for (const Index cell : cells)
            taken_[static_cast<size_t>(cell)] = true;
    }

    // Up to `size` cells, at least one.
    void step(Index size, bool may_drop) {
        const std::vector<Index> order = best_first(size + 1);
        const auto inside = std::min(std::min(size, wanted()), std::ssize(order));
        const std::vector<Index> pool(order.begin(), order.begin() + inside);
        const float outside = may_drop && inside < std::ssize(order)
                                  ? kWorthless * gain(order[static_cast<size_t>(inside)])
                                  : 0;
        Eigen::MatrixXf columns = project(pool);
        for (Index taken = 0; taken < inside; ++taken) {
            const Index best = best_of(pool);
            if (taken > 0 && gain(pool[static_cast<size_t>(best)]) < outside) break;
            take(pool, best, columns);
        }
    }

  private:
    float gain(Index j) const {
        const auto row = correlation_.row(j);
        const float mass = std::max(row[0], 0.0f);
        return (mass * mass + row.tail(row.size() - 1).squaredNorm()) / pivot(j);
    }

    float pivot(Index j) const { return std::max(norm_[j], 0.0f) + lambda_; } // rounding can go below zero

    // The best `count` cells that are left, or all of them.
    std::vector<Index> best_first(Index count) const {
        Vector gains(norm_.size());
        std::vector<Index> order;
        for (Index j = 0; j < gains.size(); ++j) {
            if (taken_[static_cast<size_t>(j)]) continue;
            gains[j] = gain(j);
            order.push_back(j);
        }
        const auto middle = order.begin() + std::min(count, std::ssize(order));
        std::partial_sort(order.begin(), middle, order.end(), [&](Index a, Index b) {
            return gains[a] != gains[b] ? gains[a] > gains[b] : a < b;
        });
        order.erase(middle, order.end());
        return order;
    }

    // Position within the pool. REQUIRES: one of its cells is left.
    Index best_of(const std::vector<Index>& pool) const {
        Index best = -1;
        float best_gain = 0;
        for (Index i = 0; i < std::ssize(pool); ++i) {
            const Index j = pool[static_cast<size_t>(i)];
            if (taken_[static_cast<size_t>(j)]) continue;
            const float now = gain(j);
            const bool wins =
                best < 0 || now > best_gain || (now == best_gain && j < pool[static_cast<size_t>(best)]);
            if (wins) best = i, best_gain = now;
        }
        return best;
    }

    // [M, cells]: the columns of A^T A of `cells`, less what the chosen ones explain.
    Eigen::MatrixXf project(const std::vector<Index>& cells) const {
        Eigen::MatrixXf columns = gram_(Eigen::all, cells);
        const auto factor = factor_.leftCols(std::ssize(chosen_));
        const Eigen::MatrixXf rows = factor(cells, Eigen::all);
        columns.noalias() -= factor * rows.transpose();
        return columns;
    }

    // Takes cells[i], whose projected column is columns.col(i), and projects it out of everything.
    void take(const std::vector<Index>& cells, Index i, Eigen::MatrixXf& columns) {
        const Index cell = cells[static_cast<size_t>(i)];
        const float root = std::sqrt(pivot(cell));
        auto added = factor_.col(std::ssize(chosen_));
        added = columns.col(i) / root;
        const Eigen::RowVectorXf target = correlation_.row(cell) / root;
        correlation_.noalias() -= added * target;
        norm_.array() -= added.array().square();
        const Vector rows = added(cells);
        columns.noalias() -= added * rows.transpose();
        chosen_.push_back(cell);
        taken_[static_cast<size_t>(cell)] = true;
    }

    Eigen::MatrixXf gram_;   // A^T A: [M, M]
    Matrix correlation_;     // A^T R: [M, 1 + dv]
    Vector norm_;            // ||a'_j||^2: [M]
    Eigen::MatrixXf factor_; // U: [M, t], as many columns as cells are chosen
    float lambda_ = 0;
    std::vector<Index> chosen_;
    std::vector<bool> taken_;
};

} // namespace

Index pursuit_step(Index kept) { return (kept + kPursuitSteps - 1) / kPursuitSteps; }

Index pursuit_candidates(Index cells, Index kept, Index given) {
    return std::min(cells, given + kPursuitCandidates * (kept - given));
}

KeptCells pursue_cells(const HeadProblem& problem, const FullAttention& full, Index kept,
                       std::span<const uint32_t> pinned) {
    const Index given = std::ssize(pinned);
    const Index looked_at = pursuit_candidates(problem.keys.rows(), kept, given);
    const std::vector<uint32_t> candidates = select_cells(full.score, looked_at, pinned);
    const Matrix keys = problem.keys(candidates, Eigen::all);
    const Matrix shares = mass_shares(problem, keys, full);
    Pursuit pursuit(shares, targets_of(full), kept);

    std::vector<Index> first;
    for (const uint32_t cell : pinned)
        first.push_back(std::lower_bound(candidates.begin(), candidates.end(), cell) - candidates.begin());
    if (!first.empty()) pursuit.take_all(first);
    const Index size = pursuit_step(kept);
    for (Index step = 0; pursuit.wanted() > 0; ++step)
        pursuit.step(size, /*may_drop=*/step < kPursuitPatience);

    std::vector<Index> chosen = pursuit.chosen();
    std::ranges::sort(chosen); // candidates rise, so their cells do
    KeptCells kept_cells;
    for (const Index j : chosen)
        kept_cells.cells.push_back(candidates[static_cast<size_t>(j)]);
    kept_cells.shares = shares(Eigen::all, chosen);
    kept_cells.gram = pursuit.gram(chosen);
    return kept_cells;
}

} // namespace kvfold
