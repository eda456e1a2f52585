// Move the compact keys themselves, where selecting, weighing and fitting values leave an error.
#pragma once

#include "solve/attention.h"

namespace kvfold {

// K': [t, d] the folded keys, V': [t, dv] values fitted to them, X = softmax(scale Q K'^T), m' the
// log-sum-exp of its logits. With y = mean_i ||Y_i||^2, over b queries:
//
//   L(K') = 1/b sum_i  ||X_i V' - Y_i||^2 / y  +  mu (m'_i - m_i)^2,    mu = 0.3
//
//   G = 2 / (b y) (X V' - Y) V'^T                               dL/dX: [b, t]
//   dS_ij = X_ij (G_ij - sum_l X_il G_il + 2 mu / b (m'_i - m_i))
//   dL/dK' = scale dS^T Q                                       times 1 - (S_ij / cap)^2 under a softcap
//
// Our addition to the paper; KVSculpt (arXiv 2603.27819) is related.
struct RefineBatch {
    Matrix queries; // [b, d]
    Matrix output;  // Y: [b, dv]
    Vector mass;    // m: [b]
    float scale;
    float softcap;     // 0 = off
    float mean_square; // y, over all queries
};

struct RefineLoss {
    double loss;     // L
    Matrix gradient; // dL/dK': [t, d]
};

RefineLoss refine_loss(const RefineBatch& batch, const Matrix& keys, const Matrix& values);

// `steps` Adam steps on K' over seeded batches of 256 queries, V' fitted once before them, the rate falling
// from one that changes a typical logit by 0.2 to a tenth of it. values: V_sel: [t, dv], the anchor of the
// fit, as in values.h. Keeps the keys it was given unless the loss over all queries is lower afterwards. The
// cost of a step is that of four products [256, t] x [t, d]; all n queries a step gained 3 % for four times
// the time.
// Fails as fit_values does.
Status refine_keys(const HeadProblem& problem, const FullAttention& full, const Matrix& values, int steps,
                   Matrix& keys);

} // namespace kvfold
