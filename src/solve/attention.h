// Attention of one head over its reference queries, in single precision.
//
// Memory: the full logits [n, T] never exist. attend_all holds one block of query rows, at most
// max(kBlockFloats, kMinBlockRows * T) floats, beside its results; everything after selection works on
// [n, t] matrices, of which at most two live at once.
#pragma once

#include "solve/head.h"

#include <span>

namespace kvfold {

inline constexpr Index kBlockFloats = Index{1}
                                      << 18; // 1 MiB: a block stays in the cache; 2^17 to 2^20 measured alike
inline constexpr Index kMinBlockRows = 32;   // fewer rows a block and packing K and V dominates

// Logits lower than their reference (row maximum or m) by more than this count as this far below. e^-30 is
// 1e-13, so T = 10^5 such cells together stay under f32's epsilon; squares and products stay normal numbers.
inline constexpr float kLowestLogit = -30.0f;

struct FullAttention {
    Vector score;  // [T] RMS over the queries of the probability of each cell
    Vector mass;   // m: [n]
    Matrix output; // Y: [n, dv]
};

struct CompactAttention {
    Matrix probabilities; // X: [n, t]
    Vector mass;          // log-sum-exp of the logits over the compact keys: [n]
};

// One pass over blocks of queries: S = scale Q K^T (capped), m, P, Y = P V, and the score.
// REQUIRES: logits that cannot overflow (solve_head checks).
FullAttention attend_all(const HeadProblem& problem);

// Keys of one head where they lie: that of cell i begins cells[i] * stride bytes behind `first`.
struct KeyRows {
    const uint8_t* first;
    size_t stride;
    bool is_half; // halves, else floats
    std::span<const uint32_t> cells;
};

struct ScanProblem {
    std::span<const KeyRows> keys; // of one head, T cells in all
    MatrixView queries;            // Q: [n, d]
    float scale;
    float softcap = 0;
    Vector elsewhere =
        {}; // [n] log-sum-exp of the logits of keys that are not among these; empty: there are none
};

// [T] the highest probability that any of the queries gives each cell, those of the first rows first. Each
// key is read once for a block of queries. All NaN where a key or a query is not finite.
Vector highest_attention(const ScanProblem& problem);

// Neighbouring keys of one head, block by block.
struct KeyBlocksView {
    MatrixView means, variances;    // [blocks, d] in each dimension
    Eigen::Ref<const Vector> sizes; // [blocks] keys of each
};

struct BlockAttention {
    Vector highest; // [blocks] the highest probability that a query is expected to give a key of the block
    Matrix masses;  // [n, blocks] log-sum-exp of the logits of the block's keys, as it is expected
};

// What the queries see of blocks, as if keys were normally distributed. scale, softcap: of the logits.
BlockAttention expected_attention(std::span<const KeyBlocksView> blocks, MatrixView queries, float scale,
                                  float softcap);

// Softmax of the queries over keys: [t, d] alone.
CompactAttention attend_compact(const HeadProblem& problem, MatrixView keys);

// exp(S_ij - m_i) for keys: [t, d], m: [n] -> [n, t]: the share of the *full* mass each key holds.
Matrix mass_shares(const HeadProblem& problem, MatrixView keys, const Vector& mass);

// RMS of (after - before) of two log-masses: [n].
float mass_error(const Vector& after, const Vector& before);

} // namespace kvfold
