#include "solve/attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#ifdef __F16C__
#include <immintrin.h>
#endif

namespace kvfold {
namespace {

void cap(float softcap, Eigen::Ref<Matrix> logits) {
    if (softcap > 0) logits.array() = softcap * (logits.array() / softcap).tanh();
}

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

constexpr Index kLeastProduct = 8;  // queries: for fewer Eigen's packing takes longer than their products
constexpr Index kTileFloats = 4096; // of keys: they stay in the fastest cache until all queries had them

void to_floats(const uint16_t* halves, Index count, float* floats) {
    Index done = 0;
#ifdef __F16C__ // compilers do not come to it by themselves, and one value after the other takes 30 times as
                // long
    for (; done + 8 <= count; done += 8)
        _mm256_storeu_ps(floats + done,
                         _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(halves + done))));
#endif
    for (; done < count; ++done)
        floats[done] = static_cast<float>(std::bit_cast<Eigen::half>(halves[done]));
}

// logits: [n, cells] = scaled K^T
void scan(const KeyRows& keys, const Matrix& scaled, Eigen::Ref<Matrix> logits) {
    const Index d = scaled.cols(), most = std::max<Index>(1, kTileFloats / d);
    Matrix tile(most, d);
    for (Index first = 0; first < logits.cols(); first += most) {
        const Index count = std::min(most, logits.cols() - first);
        for (Index i = 0; i < count; ++i) {
            const uint8_t* row = keys.first + keys.cells[static_cast<size_t>(first + i)] * keys.stride;
            if (keys.is_half)
                to_floats(reinterpret_cast<const uint16_t*>(row), d, tile.row(i).data());
            else
                std::memcpy(tile.row(i).data(), row, static_cast<size_t>(d) * sizeof(float));
        }
        if (scaled.rows() < kLeastProduct)
            logits.middleCols(first, count).noalias() = scaled.lazyProduct(tile.topRows(count).transpose());
        else
            logits.middleCols(first, count).noalias() = scaled * tile.topRows(count).transpose();
    }
}

} // namespace

FullAttention attend_all(const HeadProblem& problem) {
    const Index cells = problem.keys.rows();
    const Index queries = problem.queries.rows();
    const Index block = std::min(queries, std::max(kMinBlockRows, kBlockFloats / cells));

    FullAttention full;
    full.mass.resize(queries);
    full.output.resize(queries, problem.values.cols());
    Eigen::RowVectorXf squares = Eigen::RowVectorXf::Zero(cells);
    Matrix storage(block, cells);
    Vector inverse(block);
    for (Index first = 0; first < queries; first += block) {
        const Index rows = std::min(block, queries - first);
        auto weights = storage.topRows(rows);
        compute_logits(problem, problem.keys, first, weights);
        for (Index i = 0; i < rows; ++i) {
            const RowMass row = exponentiate(weights.row(i));
            full.mass[first + i] = row.log_mass();
            inverse[i] = 1.0f / row.sum;
            // Still in the fastest cache: this is why the row is finished before the next one starts.
            squares.array() += weights.row(i).array().square() * (inverse[i] * inverse[i]);
        }
        // Dividing Y: [rows, dv] is cheaper than dividing P: [rows, T].
        auto output = full.output.middleRows(first, rows);
        output.noalias() = weights * problem.values;
        output.array().colwise() *= inverse.head(rows).array();
    }
    full.score = (squares.transpose() / static_cast<float>(queries)).cwiseSqrt();
    return full;
}

Vector highest_attention(const ScanProblem& problem) {
    Index cells = 0;
    for (const KeyRows& keys : problem.keys)
        cells += std::ssize(keys.cells);
    const Index queries = problem.queries.rows(), block = std::min(queries, kMinBlockRows);
    Eigen::RowVectorXf highest = Eigen::RowVectorXf::Zero(cells);
    Matrix storage(block, cells);
    for (Index first = 0; first < queries; first += block) {
        auto weights = storage.topRows(std::min(block, queries - first));
        const Matrix scaled = problem.scale * problem.queries.middleRows(first, weights.rows());
        Index done = 0;
        for (const KeyRows& keys : problem.keys) {
            scan(keys, scaled, weights.middleCols(done, std::ssize(keys.cells)));
            done += std::ssize(keys.cells);
        }
        if (!std::isfinite(weights.sum()))
            return Vector::Constant(cells, std::numeric_limits<float>::quiet_NaN());
        cap(problem.softcap, weights);
        for (Index i = 0; i < weights.rows(); ++i) {
            const RowMass row = exponentiate(weights.row(i));
            float mass = row.sum;
            if (problem.elsewhere.size() > 0) mass += std::exp(problem.elsewhere[first + i] - row.maximum);
            highest = highest.cwiseMax(weights.row(i) / mass);
        }
    }
    return highest.transpose();
}

BlockAttention expected_attention(std::span<const KeyBlocksView> blocks, MatrixView queries, float scale,
                                  float softcap) {
    constexpr float kHighest = 1.77f; // deviations from the mean, of the highest of 16
    Index count = 0;
    for (const KeyBlocksView& each : blocks)
        count += each.means.rows();
    const Matrix scaled = scale * queries, squares = scaled.cwiseAbs2();
    BlockAttention attention{Vector(count), Matrix(queries.rows(), count)};
    Matrix peaks(queries.rows(), count);
    Index done = 0;
    for (const KeyBlocksView& each : blocks) {
        const Index some = each.means.rows();
        const Matrix means = scaled * each.means.transpose();
        const Matrix variances = squares * each.variances.transpose();
        peaks.middleCols(done, some) = means + kHighest * variances.cwiseSqrt();
        auto masses = attention.masses.middleCols(done, some);
        masses = means + 0.5f * variances; // of exp of a normal distribution
        cap(softcap, masses);
        masses.rowwise() += each.sizes.array().log().matrix().transpose();
        done += some;
    }
    cap(softcap, peaks);
    attention.highest.setConstant(-std::numeric_limits<float>::infinity());
    for (Index i = 0; i < queries.rows(); ++i) {
        Eigen::RowVectorXf row = attention.masses.row(i);
        const float mass = exponentiate(row).log_mass();
        attention.highest = attention.highest.cwiseMax((peaks.row(i).array() - mass).matrix().transpose());
    }
    attention.highest = attention.highest.array().exp();
    return attention;
}

CompactAttention attend_compact(const HeadProblem& problem, MatrixView keys) {
    const Index queries = problem.queries.rows();
    CompactAttention compact{Matrix(queries, keys.rows()), Vector(queries)};
    compute_logits(problem, keys, 0, compact.probabilities);
    for (Index i = 0; i < queries; ++i) {
        auto row = compact.probabilities.row(i);
        const RowMass mass = exponentiate(row);
        compact.mass[i] = mass.log_mass();
        row /= mass.sum;
    }
    return compact;
}

Matrix mass_shares(const HeadProblem& problem, MatrixView keys, const Vector& mass) {
    Matrix shares(problem.queries.rows(), keys.rows());
    compute_logits(problem, keys, 0, shares);
    for (Index i = 0; i < shares.rows(); ++i) {
        auto row = shares.row(i).array();
        row = (row - mass[i]).max(kLowestLogit).exp();
    }
    return shares;
}

float mass_error(const Vector& after, const Vector& before) {
    return std::sqrt((after - before).squaredNorm() / static_cast<float>(after.size()));
}

} // namespace kvfold
