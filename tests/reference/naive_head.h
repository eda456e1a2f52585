// The double-precision twin of src/solve: each step as its definition, in plain loops, as slow as it likes.
// It shares no code with src/solve, only the names of the steps.
#pragma once

#include "solve/head.h"

#include <Eigen/Core>

#include <limits>
#include <vector>

namespace kvfold::reference {

using Table = Eigen::MatrixXd; // storage only: all arithmetic below is written out
using Column = Eigen::VectorXd;

struct NaiveAttention {
    Table logits;        // S: [n, keys], capped
    Table probabilities; // P: [n, keys]
    Column mass;         // m: [n]
    Table output;        // Y: [n, dv]; empty when no values were given
    Column score;        // [keys]
};

inline constexpr double kEpsilon = std::numeric_limits<float>::epsilon();

// A dot product of d terms in f32 is off by at most (d + 2) eps |scale q| |k|; tanh never enlarges that.
double logit_error(const HeadProblem& problem);

NaiveAttention naive_attention(const HeadProblem& problem, const Table& keys, const Table& values);

std::vector<uint32_t> naive_select(const Column& score, Index kept, const std::vector<uint32_t>& pinned);

// Of queries that count alike: ||A w - 1||^2 + lambda ||w - 1||^2 with lambda = 1e-4 x mean eigenvalue.
double bias_objective(const Table& shares, const Column& weights);

// Its minimum over e^-3 <= w <= e^3 by projected gradient with momentum. Returns w.
Column naive_weights(const Table& shares);

// argmin ||A z - B||^2 + ridge x mean eigenvalue x ||z||^2 by textbook Cholesky.
Table naive_ridge(const Table& a, const Table& b, double ridge);

// The whole chain of solve_head without rounding. REQUIRES: queries that count alike.
struct NaiveHead {
    std::vector<uint32_t> kept;
    Table keys, values;
    double absorb_residual = 0, output_error = 0, mass_error = 0;
};
NaiveHead naive_solve(const HeadProblem& problem, const SolvePlan& plan, Index kept);

double importance_of(const HeadProblem& problem, Index query); // u

// What any compact head is worth on the queries of `problem`, by their importance.
struct Quality {
    double output_error; // ||Y' - Y|| / ||Y||
    double mass_error;   // RMS of m' - m
};
Quality naive_quality(const HeadProblem& problem, const Table& keys, const Table& values);

} // namespace kvfold::reference
