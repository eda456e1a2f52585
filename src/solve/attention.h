// Attention of one head over its reference queries, in single precision.
//
// Memory: the full logits [n, T] never exist. attend_all holds one block of query rows, at most
// max(kBlockFloats, kMinBlockRows * T) floats, beside its results; everything after selection works on
// [n, t] matrices, of which at most two live at once.
#pragma once

#include "solve/head.h"

namespace kvfold {

inline constexpr Index kBlockFloats = Index{1}
                                      << 18; // 1 MiB: a block stays in the cache; 2^17 to 2^20 measured alike
inline constexpr Index kMinBlockRows = 32;   // fewer rows a block and packing K and V dominates

// Logits lower than their reference (row maximum or m) by more than this count as this far below. e^-30 is
// 1e-13, so T = 10^5 such cells together stay under f32's epsilon; squares and products stay normal numbers.
inline constexpr float kLowestLogit = -30.0f;

// Logits become softcap * tanh(logits / softcap); softcap 0 = they stay.
void cap(float softcap, Eigen::Ref<Matrix> logits);

// Rows of a query in A, X and Y have the factor r, r^2 being the query's importance over its mean. So every
// sum of squares over the queries counts each by its importance, and so does every least squares.
struct FullAttention {
    Vector score;  // [T] RMS over the queries of the probability of each cell
    Vector mass;   // m: [n]
    Matrix output; // Y = r P V: [n, dv]
    Vector roots;  // r: [n]
};

struct CompactAttention {
    Matrix probabilities; // X, r times the softmax: [n, t]
    Vector mass;          // log-sum-exp of the logits over the compact keys: [n]
};

// r: [n]. importance: u: [n]; empty: all alike.
Vector roots_of_importance(std::span<const float> importance, Index queries);

// One pass over blocks of queries: S = scale Q K^T (capped), m, P, Y = r P V, and the score.
// REQUIRES: logits that cannot overflow (solve_head checks).
FullAttention attend_all(const HeadProblem& problem);

// r times the softmax of the queries over keys: [t, d] alone.
CompactAttention attend_compact(const HeadProblem& problem, MatrixView keys);

// A: r_i exp(S_ij - m_i) for keys: [t, d] -> [n, t]: r times the share of the *full* mass that each key
// holds.
Matrix mass_shares(const HeadProblem& problem, MatrixView keys, const FullAttention& full);

// RMS over the queries of what the log-mass `after`: [n] is above that of `before`.
float mass_error(const Vector& after, const FullAttention& before);

} // namespace kvfold
