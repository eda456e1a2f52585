// An attention head that behaves like real ones where it matters: keys in clusters of low rank, queries that
// look for clusters, a sink at cell 0, recency, and a direction that all queries share (which absorbing
// needs).
#pragma once

#include "solve/head.h"

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

namespace kvfold::reference {

struct SyntheticSizes {
    Index cells = 256;
    Index queries = 384;
    Index key_width = 32;
    Index value_width = 32;
    float shared = 4; // length of the direction all queries share; 0 = none, and the absorb residual is large
    uint32_t seed = 1;
};

struct SyntheticHead {
    Matrix keys, values, queries;
    float scale;
    HeadProblem problem(float softcap = 0) const { return {keys, values, queries, scale, softcap}; }
    // As a cache of halves holds its keys and values.
    void round_to_halves() {
        keys = keys.cast<Eigen::half>().cast<float>().eval();
        values = values.cast<Eigen::half>().cast<float>().eval();
    }
};

// 1, 2, 3, 1 ..: the importance of each query.
inline std::vector<float> rising_importance(Index queries) {
    std::vector<float> importance;
    for (Index i = 0; i < queries; ++i)
        importance.push_back(static_cast<float>(1 + i % 3));
    return importance;
}

// Each query as often as that says.
inline Matrix asked_again(const Matrix& queries) {
    std::vector<Index> rows;
    for (Index i = 0; i < queries.rows(); ++i)
        rows.insert(rows.end(), static_cast<size_t>(1 + i % 3), i);
    return queries(rows, Eigen::all);
}

inline Matrix random_matrix(Index rows, Index cols, std::mt19937& random) {
    std::normal_distribution<float> normal;
    return Matrix::NullaryExpr(rows, cols, [&] { return normal(random); });
}

inline SyntheticHead synthetic_head(const SyntheticSizes& sizes) {
    std::mt19937 random(sizes.seed);
    const Index rank = std::min<Index>(8, sizes.key_width);
    const Index clusters = std::max<Index>(4, sizes.cells / 12);
    // A basis of `rank` directions; one more, orthogonal in expectation, is shared by all queries.
    const Matrix basis = random_matrix(rank, sizes.key_width, random) / std::sqrt(float(sizes.key_width));
    Matrix shared = random_matrix(1, sizes.key_width, random);
    shared /= shared.norm();
    const Matrix centres = 2.5f * random_matrix(clusters, rank, random);
    const Matrix meanings = random_matrix(clusters, sizes.value_width, random);

    SyntheticHead head;
    head.scale = 1 / std::sqrt(float(rank));
    head.keys = 0.25f * random_matrix(sizes.cells, sizes.key_width, random);
    head.values = 0.5f * random_matrix(sizes.cells, sizes.value_width, random);
    head.queries = 0.25f * random_matrix(sizes.queries, sizes.key_width, random);
    for (Index j = 0; j < sizes.cells; ++j) {
        const Index cluster = static_cast<Index>(random() % static_cast<uint32_t>(clusters));
        head.keys.row(j) += (centres.row(cluster) + 0.4f * random_matrix(1, rank, random)) * basis;
        head.values.row(j) += meanings.row(cluster);
    }
    head.keys -=
        (head.keys * shared.transpose()).eval() * shared; // what all queries share says nothing about cells
    for (Index i = 0; i < sizes.queries; ++i) {
        const Index cluster = static_cast<Index>(random() % static_cast<uint32_t>(clusters));
        head.queries.row(i) += (0.9f * centres.row(cluster) + random_matrix(1, rank, random)) * basis;
        head.queries.row(i) += sizes.shared * shared;
    }
    if (sizes.shared > 0)
        head.keys.row(0) += (8 / (sizes.shared * head.scale)) * shared; // a sink: + 8 for all
    return head;
}

} // namespace kvfold::reference
