#include "solve/absorb.h"

#include "solve/ridge.h"

#include <algorithm>
#include <cmath>

namespace kvfold {
namespace {

constexpr float kCapUse = 0.98f; // a capped logit is asked to reach at most this part of the cap
// Of the direction: the second leaves a thousandth of what an f32 Gram matrix rounds.
constexpr int kSolves = 2;
constexpr float kLargestRawBias = 6; // twice the largest bias: what a cap may demand before we give in

// S_ij weighted by r_i A_ij: [t]
Vector mean_logits(const Matrix& shares, const FullAttention& full) {
    const Vector of_share_1 = full.mass.array() - full.roots.array().log();
    const Matrix weighted = shares.array() * (shares.array().log().colwise() + of_share_1.array()); // A S
    return (weighted.transpose() * full.roots).cwiseQuotient(shares.transpose() * full.roots);
}

// One exponential a pair serves all shares: A exp(b p / 4)^k is r times the mass with k quarters of the bias.
float best_share(const Matrix& shares, const Vector& roots, const Vector& bias, const Vector& projections) {
    Eigen::Array<double, kBiasQuarters + 1, 1> errors = Eigen::Array<double, kBiasQuarters + 1, 1>::Zero();
    for (Index i = 0; i < shares.rows(); ++i) {
        const Eigen::ArrayXf quarter = (bias.array() * (projections[i] / kBiasQuarters)).exp();
        const float root = roots[i];
        const float log_root = std::log(root);
        Eigen::ArrayXf mass = shares.row(i).transpose();
        for (int k = 0; k <= kBiasQuarters; ++k) {
            const float change = std::log(mass.sum()) - log_root; // infinite where the bias overflows
            errors[k] += std::pow(root * change, 2);              // which is not chosen then
            mass *= quarter;
        }
    }
    return static_cast<float>(best_quarters(errors)) / kBiasQuarters;
}

} // namespace

int best_quarters(const Eigen::Array<double, kBiasQuarters + 1, 1>& errors) {
    int best = 0;
    for (int k = 1; k <= kBiasQuarters; ++k) {
        if (errors[k] < errors[best]) best = k;
    }
    return best;
}

Vector raise_before_cap(float cap, const Vector& mean, const Vector& bias) {
    Vector raw(bias.size());
    for (Index j = 0; j < bias.size(); ++j) {
        const float now = std::clamp(mean[j] / cap, -kCapUse, kCapUse);
        const float wanted = std::clamp(mean[j] / cap + bias[j] / cap, -kCapUse, kCapUse);
        raw[j] = std::clamp(cap * (std::atanh(wanted) - std::atanh(now)), -kLargestRawBias, kLargestRawBias);
    }
    return raw;
}

Result<AbsorbDirection> fit_direction(const HeadProblem& problem) {
    const Vector roots = roots_of_importance(problem.importance, problem.queries.rows());
    const VectorD ones = roots.cast<double>();
    // Divided by the largest: squares of large queries would overflow f32.
    const float largest = problem.queries.cwiseAbs().maxCoeff();
    const float unit = largest > 0 ? largest : 1;
    Matrix weighted = problem.queries / unit;
    weighted.array().colwise() *= roots.array();
    const MatrixD normal = gram(weighted); // n d^2 products, in f32; what that rounds is made up for below
    const MatrixD exact = weighted.cast<double>();
    const double lambda = kAbsorbRidge * exact.squaredNorm() / static_cast<double>(exact.cols());
    VectorD direction = VectorD::Zero(exact.cols()), projected = VectorD::Zero(exact.rows());
    for (int round = 0; round < kSolves; ++round) {
        const VectorD left = exact.transpose() * (ones - projected) - lambda * direction;
        KVFOLD_TRY(const VectorD step, solve_ridge(normal, left, kAbsorbRidge));
        direction += step;
        projected = exact * direction;
    }
    const double squares = (projected - ones).squaredNorm() / static_cast<double>(ones.size());
    return AbsorbDirection{(direction / (double(unit) * double(problem.scale))).cast<float>(),
                           projected.cwiseQuotient(ones).cast<float>(),
                           static_cast<float>(std::sqrt(squares))};
}

Result<float> absorb_bias(const HeadProblem& problem, const Matrix& shares, const FullAttention& full,
                          const Vector& bias, Matrix& keys) {
    KVFOLD_TRY(const AbsorbDirection absorbing, fit_direction(problem));
    const bool trusted = absorbing.residual <= kTrustedResidual;
    const Vector used =
        trusted ? bias : Vector(best_share(shares, full.roots, bias, absorbing.projections) * bias);
    const bool capped = problem.softcap > 0;
    keys += (capped ? raise_before_cap(problem.softcap, mean_logits(shares, full), used) : used) *
            absorbing.direction.transpose();
    return absorbing.residual;
}

} // namespace kvfold
