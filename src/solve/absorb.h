// Bias without a place for a bias: stock attention has none, so it goes into the keys.
#pragma once

#include "base/result.h"
#include "solve/attention.h"

namespace kvfold {

inline constexpr double kAbsorbRidge = 1e-3;
inline constexpr float kTrustedResidual = 0.25f;

struct AbsorbDirection {
    Vector direction;   // g: [d]
    Vector projections; // scale * Q g: [n], as close to 1 as one direction can make them
    float residual;     // RMS of projections - 1: 0 perfect, 1 useless
};

// Q: [n, d], one direction on which all queries project alike:
//
//   g = argmin ||scale Q g - 1||^2 + lambda ||g||^2,   lambda = 1e-3 x mean eigenvalue of scale^2 Q^T Q
//   (scale^2 Q^T Q + lambda I) g = scale Q^T 1         rows of Q and 1 times r (attention.h)
//
// The ridge keeps g short in directions that the reference queries hardly use and others may.
Result<AbsorbDirection> fit_direction(const HeadProblem& problem);

inline constexpr int kBiasQuarters = 4; // an untrusted direction takes 0 .. 4 quarters of the bias

// The number of quarters that leaves the least error of the log-mass: `errors` for 0 .. 4 of them.
int best_quarters(const Eigen::Array<double, kBiasQuarters + 1, 1>& errors);

// bias: [t] that is wanted of capped logits -> [t] that is added to the logits before the cap. mean: [t] of
// each cell's capped logits, weighted by importance and mass share.
Vector raise_before_cap(float cap, const Vector& mean, const Vector& bias);

// keys: [t, d] += b g^T, so that query i sees b_j (scale q_i.g) ~ b_j more on cell j. Ours, not the paper's:
// there the bias is an input of the attention kernel.
//
// Softcap c: a bias added before the cap is squeezed by it. We want the capped logit L to become L + b, so
// the raw bias is c atanh((L + b)/c) - c atanh(L/c), which for small b is b / (derivative of the cap). L
// differs by query; the mean weighted by the mass shares stands for all, since queries that ignore a cell do
// not matter.
//
// Residual above kTrustedResidual: the projections scatter so much that a full bias may add more error
// than it removes. The bias is then scaled by the share of {0, 1/4, 1/2, 3/4, 1} that gives the least error
// of the log-mass on the reference queries themselves (to first order where there is a softcap).
//
// shares: [n, t] as in fit_bias, bias: [t]. Returns the residual.
Result<float> absorb_bias(const HeadProblem& problem, const Matrix& shares, const FullAttention& full,
                          const Vector& bias, Matrix& keys);

} // namespace kvfold
