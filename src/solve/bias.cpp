#include "solve/bias.h"

#include "solve/ridge.h"

#include <Eigen/Cholesky>

#include <algorithm>
#include <cmath>
#include <vector>

namespace kvfold {
namespace {

constexpr int kRounds = 40;         // usually 3 to 8 are needed
constexpr int kSweeps = 4;          // coordinate sweeps before each Newton step
constexpr double kTolerance = 1e-4; // relative change of any weight in a round: 1e-4 in its bias
constexpr double kShortestStep = 1.0 / 64;

// Minimises 1/2 w^T G w - linear^T w over the box. Sweeps of coordinate descent find which bounds hold; a
// Newton step over the free weights then finishes what sweeps alone would take thousands for. Neither ever
// raises the objective, so the pair converges to the one minimum.
class BoxProblem {
  public:
    BoxProblem(const MatrixD& quadratic, const VectorD& linear)
        : G_(quadratic), linear_(linear), w_(VectorD::Ones(linear.size())), gradient_(G_ * w_ - linear_) {}

    // Returns the largest relative change of a weight.
    double sweep() {
        double largest = 0;
        for (Index j = 0; j < w_.size(); ++j) {
            const double next = clip(w_[j] - gradient_[j] / G_(j, j));
            const double step = next - w_[j];
            if (step == 0) continue;
            largest = std::max(largest, std::abs(step) / w_[j]);
            w_[j] = next;
            gradient_ += step * G_.col(j);
        }
        return largest;
    }

    // Returns the largest relative change of a weight.
    double newton_step() {
        std::vector<Index> free;
        for (Index j = 0; j < w_.size(); ++j) {
            if (w_[j] > kLow && w_[j] < kHigh) free.push_back(j);
        }
        if (free.empty()) return 0;
        const MatrixD inner = G_(free, free);
        const Eigen::LLT<MatrixD> factor(inner);
        if (factor.info() != Eigen::Success) return 0;
        VectorD step = VectorD::Zero(w_.size());
        step(free) = -factor.solve(gradient_(free));
        return line_search(step);
    }

    const VectorD& weights() const { return w_; }

  private:
    // Halves the step until the clipped point is lower; the whole step alone is refused nearly always.
    double line_search(const VectorD& step) {
        const double before = objective(w_, gradient_);
        for (double length = 1; length >= kShortestStep; length /= 2) {
            const VectorD next = (w_ + length * step).unaryExpr(&BoxProblem::clip);
            const VectorD next_gradient = G_ * next - linear_;
            if (objective(next, next_gradient) < before) {
                const double change = ((next - w_).array().abs() / w_.array()).maxCoeff();
                w_ = next;
                gradient_ = next_gradient;
                return change;
            }
        }
        return 0;
    }

    static double clip(double w) { return std::clamp(w, kLow, kHigh); }
    double objective(const VectorD& w, const VectorD& gradient) const {
        return 0.5 * w.dot(gradient - linear_);
    }

    static inline const double kLow = std::exp(-kLargestBias);
    static inline const double kHigh = std::exp(kLargestBias);
    const MatrixD& G_;
    const VectorD& linear_;
    VectorD w_;
    VectorD gradient_; // G w - linear
};

} // namespace

Result<Vector> fit_bias(const Matrix& shares, const Vector& roots) {
    return fit_bias(shares, roots, gram(shares));
}

Result<Vector> fit_bias(const Matrix& shares, const Vector& roots, MatrixD quadratic) {
    const double lambda = kBiasRidge * mean_eigenvalue(quadratic);
    if (!std::isfinite(lambda) || lambda <= 0) {
        return fail(ErrorCode::numeric, "bias: the kept cells' attention mass is not finite");
    }
    quadratic.diagonal().array() += lambda;
    const VectorD linear = (shares.transpose() * roots).cast<double>().array() + lambda;
    BoxProblem problem(quadratic, linear);
    for (int round = 0; round < kRounds; ++round) {
        double change = 0;
        for (int i = 0; i < kSweeps; ++i)
            change = problem.sweep();
        // Sweeps creep along directions that hardly matter, so a small change of theirs proves nothing alone.
        change = std::max(change, problem.newton_step());
        if (change < kTolerance) break;
    }
    return Vector(problem.weights().array().log().cast<float>());
}

} // namespace kvfold
