#include "solve/attention.h"

#include <algorithm>
#include <cmath>

namespace kvfold {
namespace {

// logits: [rows, keys] = capped scale Q K^T for queries `first` .. `first + rows`.
void compute_logits(const HeadProblem& problem, const MatrixView& keys, Index first,
                    Eigen::Ref<Matrix> logits) {
    const Matrix scaled = problem.scale * problem.queries.middleRows(first, logits.rows());
    logits.noalias() = scaled * keys.transpose();
    cap(problem.softcap, logits);
}

// row: logits in, exp(logit - maximum) out. Returns {maximum, sum}.
struct RowMass {
    float maximum;
    float sum;
    float log_mass() const { return maximum + std::log(sum); }
};

RowMass exponentiate(Eigen::Ref<Eigen::RowVectorXf> row) {
    const float maximum = row.maxCoeff();
    row.array() = (row.array() - maximum).max(kLowestLogit).exp();
    return {maximum, row.sum()};
}

} // namespace

void cap(float softcap, Eigen::Ref<Matrix> logits) {
    if (softcap > 0) logits.array() = softcap * (logits.array() / softcap).tanh();
}

Vector roots_of_importance(std::span<const float> importance, Index queries) {
    if (importance.empty()) return Vector::Ones(queries);
    // A copy, which is aligned: Eigen sums in another order where memory is not.
    const Vector each = Eigen::Map<const Vector>(importance.data(), queries);
    return (each / static_cast<float>(each.cast<double>().mean())).cwiseSqrt();
}

FullAttention attend_all(const HeadProblem& problem) {
    const Index cells = problem.keys.rows();
    const Index queries = problem.queries.rows();
    const Index block = std::min(queries, std::max(kMinBlockRows, kBlockFloats / cells));

    FullAttention full;
    full.mass.resize(queries);
    full.output.resize(queries, problem.values.cols());
    Eigen::RowVectorXf squares = Eigen::RowVectorXf::Zero(cells);
    full.roots = roots_of_importance(problem.importance, queries);
    Matrix storage(block, cells);
    Vector factors(block);
    for (Index first = 0; first < queries; first += block) {
        const Index rows = std::min(block, queries - first);
        auto weights = storage.topRows(rows);
        compute_logits(problem, problem.keys, first, weights);
        for (Index i = 0; i < rows; ++i) {
            const RowMass row = exponentiate(weights.row(i));
            full.mass[first + i] = row.log_mass();
            factors[i] = full.roots[first + i] / row.sum;
            // Still in the fastest cache: this is why the row is finished before the next one starts.
            squares.array() += weights.row(i).array().square() * (factors[i] * factors[i]);
        }
        // Dividing Y: [rows, dv] is cheaper than dividing P: [rows, T].
        auto output = full.output.middleRows(first, rows);
        output.noalias() = weights * problem.values;
        output.array().colwise() *= factors.head(rows).array();
    }
    full.score = (squares.transpose() / static_cast<float>(queries)).cwiseSqrt();
    return full;
}

CompactAttention attend_compact(const HeadProblem& problem, MatrixView keys) {
    const Index queries = problem.queries.rows();
    CompactAttention compact{Matrix(queries, keys.rows()), Vector(queries)};
    const Vector roots = roots_of_importance(problem.importance, queries);
    compute_logits(problem, keys, 0, compact.probabilities);
    for (Index i = 0; i < queries; ++i) {
        auto row = compact.probabilities.row(i);
        const RowMass mass = exponentiate(row);
        compact.mass[i] = mass.log_mass();
        row *= roots[i] / mass.sum;
    }
    return compact;
}

Matrix mass_shares(const HeadProblem& problem, MatrixView keys, const FullAttention& full) {
    Matrix shares(problem.queries.rows(), keys.rows());
    compute_logits(problem, keys, 0, shares);
    for (Index i = 0; i < shares.rows(); ++i) {
        auto row = shares.row(i).array();
        row = (row - full.mass[i]).max(kLowestLogit).exp() * full.roots[i];
    }
    return shares;
}

float mass_error(const Vector& after, const FullAttention& before) {
    const float squares = (after - before.mass).cwiseProduct(before.roots).squaredNorm();
    return std::sqrt(squares / static_cast<float>(after.size()));
}

} // namespace kvfold
