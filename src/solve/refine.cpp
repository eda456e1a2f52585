#include "solve/refine.h"

#include "base/shuffle.h"
#include "solve/loss.h"
#include "solve/values.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

namespace kvfold {
namespace {

constexpr Index kManyCells = 448; // whose steps are not multiplied
// Times the square root of the loss: what a step changes a typical logit by. A change of e in all logits
// costs about e^2, so a rate that does not know what is left to gain undoes what the solver has reached: with
// 0.2, right for the worst heads, a third of the heads at 4x were worse after 128 steps than before them. In
// units of the keys instead of the logits, the same rate was right for one model and too large for another,
// whose keys are longer and whose queries are shorter.
constexpr float kRate = 0.5f, kHighestRate = 0.2f;
constexpr float kValueRate = 0.5f; // of that: what a step changes a typical value by
constexpr float kWarmUp = 0.2f; // of the steps: Adam's first ones are all of full size, whatever the gradient
constexpr float kLastRate = 0.1f; // of the rate

RefineBatch batch_of(const HeadProblem& problem, const FullAttention& full, float mean_square,
                     const std::vector<Index>& rows) {
    return {problem.queries(rows, Eigen::all),
            full.output(rows, Eigen::all),
            full.mass(rows),
            full.roots(rows),
            problem.scale,
            problem.softcap,
            mean_square};
}

// Adam (arXiv 1412.6980): steps of the rate's size whatever the gradient's scale, which differs by orders of
// magnitude between heads.
class Adam {
  public:
    Adam(Index rows, Index cols) : mean_(Matrix::Zero(rows, cols)), square_(Matrix::Zero(rows, cols)) {}

    void step(const Matrix& gradient, float rate, Matrix& rows) {
        ++steps_;
        mean_ += (1 - kMeanDecay) * (gradient - mean_);
        square_ += (1 - kSquareDecay) * (gradient.cwiseAbs2() - square_);
        const float mean_bias = 1 - std::pow(kMeanDecay, static_cast<float>(steps_));
        const float square_bias = 1 - std::pow(kSquareDecay, static_cast<float>(steps_));
        rows.array() -=
            rate / mean_bias * mean_.array() / ((square_.array() / square_bias).sqrt() + kTinyStep);
    }

  private:
    Matrix mean_, square_;
    int steps_ = 0;
};

float rate_of(double loss) { return std::min(kRate * std::sqrt(static_cast<float>(loss)), kHighestRate); }

struct Fit {
    Matrix values;   // V'
    double loss = 0; // L over all queries
};

// values: V_sel in. One pass over the queries serves the fit and its loss.
Result<Fit> fit_all(const HeadProblem& problem, const FullAttention& full, const Matrix& keys,
                    Matrix values) {
    const CompactAttention compact = attend_compact(problem, keys);
    KVFOLD_CHECK(fit_values(compact.probabilities, full.output, values));
    const double loss = matching_loss(full, compact, values);
    return Fit{std::move(values), loss};
}

} // namespace

Index refine_steps_for(int steps, Index cells) { return std::max<Index>(steps, steps * kManyCells / cells); }

float refine_key_rate(const HeadProblem& problem, double loss) {
    const Index n = problem.queries.rows();
    const Vector squares = problem.queries.rowwise().squaredNorm();
    const Vector roots = roots_of_importance(problem.importance, n);
    const float query = std::sqrt(squares.dot(roots.cwiseAbs2()) / static_cast<float>(n));
    return rate_of(loss) / std::max(problem.scale * query, std::numeric_limits<float>::min());
}

float refine_value_rate(float value_square, double loss) {
    return kValueRate * rate_of(loss) * std::sqrt(value_square);
}

float refine_share_of_rate(Index step, Index count) {
    const float done = static_cast<float>(step + 1) / static_cast<float>(count);
    if (done < kWarmUp) return done / kWarmUp;
    return 1 - (1 - kLastRate) * (done - kWarmUp) / (1 - kWarmUp);
}

RefineOrder::RefineOrder(Index queries) : order_(static_cast<size_t>(queries)), next_(order_.size()) {
    std::iota(order_.begin(), order_.end(), Index{0});
}

std::vector<Index> RefineOrder::draw() {
    std::vector<Index> rows(std::min<size_t>(order_.size(), kRefineBatch));
    for (Index& row : rows)
        row = next();
    return rows;
}

Index RefineOrder::next() {
    if (next_ == order_.size()) {
        shuffle_first(order_, order_.size(), random_);
        next_ = 0;
    }
    return order_[next_++];
}

RefineLoss refine_loss(const RefineBatch& batch, const Matrix& keys, const Matrix& values) {
    const auto count = static_cast<float>(batch.queries.rows());
    const Matrix queries = batch.scale * batch.queries;
    Matrix weights(queries.rows(), keys.rows()); // S, then X
    weights.noalias() = queries * keys.transpose();
    Matrix slope; // of the cap
    if (batch.softcap > 0) {
        weights.array() = (weights.array() / batch.softcap).tanh();
        slope = 1 - weights.array().square();
        weights *= batch.softcap;
    }
    Vector mass_error(queries.rows());
    for (Index i = 0; i < weights.rows(); ++i) {
        auto row = weights.row(i).array();
        const float top = row.maxCoeff();
        row = (row - top).max(kLowestLogit).exp();
        const float sum = row.sum();
        row /= sum;
        mass_error[i] = batch.roots[i] * (top + std::log(sum) - batch.mass[i]);
    }
    Matrix error = weights * values;
    error.array().colwise() *= batch.roots.array();
    error -= batch.output;
    RefineLoss result;
    result.loss = (error.squaredNorm() / batch.mean_square + kMassWeight * mass_error.squaredNorm()) / count;
    error.array().colwise() *= 2 / (count * batch.mean_square) * batch.roots.array();
    result.values.noalias() = weights.transpose() * error;
    Matrix gradient(weights.rows(), weights.cols()); // G, then dS
    gradient.noalias() = error * values.transpose();
    for (Index i = 0; i < weights.rows(); ++i) {
        const float mean = weights.row(i).dot(gradient.row(i));
        const float mass = 2 * kMassWeight / count * batch.roots[i] * mass_error[i];
        gradient.row(i).array() = weights.row(i).array() * (gradient.row(i).array() - mean + mass);
    }
    if (batch.softcap > 0) gradient.array() *= slope.array();

    result.keys.noalias() = gradient.transpose() * queries;
    return result;
}

Status refine_keys(const HeadProblem& problem, const FullAttention& full, const Matrix& values, int steps,
                   Matrix& keys) {
    KVFOLD_TRY(Fit fit, fit_all(problem, full, keys, values));
    const double before = fit.loss;
    const float key_rate = refine_key_rate(problem, before);
    const float value_rate =
        refine_value_rate(mean_square(fit.values) / static_cast<float>(values.cols()), before);
    Matrix refined = keys;
    Adam key_adam(keys.rows(), keys.cols()), value_adam(values.rows(), values.cols());
    const float square = mean_square(full.output);
    RefineOrder order(problem.queries.rows());
    const Index count = refine_steps_for(steps, keys.rows());
    for (Index step = 0; step < count; ++step) {
        const float left = refine_share_of_rate(step, count);
        const RefineLoss loss =
            refine_loss(batch_of(problem, full, square, order.draw()), refined, fit.values);
        key_adam.step(loss.keys, left * key_rate, refined);
        value_adam.step(loss.values, left * value_rate, fit.values);
    }
    if (!refined.allFinite() || !fit.values.allFinite()) return {};
    const double after = matching_loss(full, attend_compact(problem, refined), fit.values);
    if (after < before) keys = std::move(refined);
    return {};
}

} // namespace kvfold
