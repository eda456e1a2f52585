#include "solve/scan.h"

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
void multiply(const KeyRows& keys, const Matrix& scaled, Eigen::Ref<Matrix> logits) {
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

float log_mass(const Eigen::Ref<const Eigen::RowVectorXf>& logits) {
    const float maximum = logits.maxCoeff();
    return maximum + std::log((logits.array() - maximum).max(kLowestLogit).exp().sum());
}

float log_of_both(float mass, float other) {
    const float maximum = std::max(mass, other);
    return maximum + std::log(std::exp(mass - maximum) + std::exp(other - maximum));
}

} // namespace

Vector highest_attention(const ScanProblem& problem) {
    Index cells = 0;
    for (const KeyRows& keys : problem.keys)
        cells += std::ssize(keys.cells);
    const Index queries = problem.queries.rows(), block = std::min(queries, kMinBlockRows);
    Eigen::RowVectorXf highest = Eigen::RowVectorXf::Constant(cells, kLowestLogit); // logarithms
    Matrix storage(block, cells);
    for (Index first = 0; first < queries; first += block) {
        auto logits = storage.topRows(std::min(block, queries - first));
        const Matrix scaled = problem.scale * problem.queries.middleRows(first, logits.rows());
        Index done = 0;
        for (const KeyRows& keys : problem.keys) {
            multiply(keys, scaled, logits.middleCols(done, std::ssize(keys.cells)));
            done += std::ssize(keys.cells);
        }
        if (!std::isfinite(logits.sum()))
            return Vector::Constant(cells, std::numeric_limits<float>::quiet_NaN());
        cap(problem.softcap, logits);
        for (Index i = 0; i < logits.rows(); ++i) {
            float mass = log_mass(logits.row(i));
            if (problem.elsewhere.size() > 0) mass = log_of_both(mass, problem.elsewhere[first + i]);
            highest = highest.cwiseMax((logits.row(i).array() - mass).matrix());
        }
    }
    return highest.transpose().array().exp();
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
        const float mass = log_mass(attention.masses.row(i));
        attention.highest = attention.highest.cwiseMax((peaks.row(i).array() - mass).matrix().transpose());
    }
    attention.highest = attention.highest.array().exp();
    return attention;
}

} // namespace kvfold
