// Move the compact keys themselves, where selecting, weighing and fitting values leave an error.
#pragma once

#include "base/result.h"
#include "solve/attention.h"

#include <random>
#include <vector>

namespace kvfold {

// K': [t, d] the keys that absorbed their bias, V': [t, dv] values fitted to them, P' = softmax(scale Q
// K'^T), m' the log-sum-exp of its logits, X = r P' (attention.h). With y = mean_i ||Y_i||^2, over b queries:
//
//   L = 1/b sum_i  ||X_i V' - Y_i||^2 / y  +  mu r_i^2 (m'_i - m_i)^2,    mu = 0.3
//
//   E = 2 / (b y) r (X V' - Y)
//   G = E V'^T                                                  dL/dP': [b, t]
//   dS_ij = P'_ij (G_ij - sum_l P'_il G_il + 2 mu / b r_i^2 (m'_i - m_i))
//   dL/dK' = scale dS^T Q                                       times 1 - (S_ij / cap)^2 under a softcap
//   dL/dV' = P'^T E
//
// Our addition to the paper; KVSculpt (arXiv 2603.27819) is related.
struct RefineBatch {
    Matrix queries; // [b, d]
    Matrix output;  // Y: [b, dv]
    Vector mass;    // m: [b]
    Vector roots;   // r: [b]
    float scale;
    float softcap;     // 0 = off
    float mean_square; // y, over all queries
};

struct RefineLoss {
    double loss;   // L
    Matrix keys;   // dL/dK': [t, d]
    Matrix values; // dL/dV': [t, dv]
};

RefineLoss refine_loss(const RefineBatch& batch, const Matrix& keys, const Matrix& values);

inline constexpr Index kRefineBatch = 512; // queries of a step

inline constexpr float kMeanDecay = 0.9f, kSquareDecay = 0.99f, kTinyStep = 1e-12f; // of Adam

// Steps that are taken: `steps` for 448 cells or more; fewer cells take as many more, at the same cost.
Index refine_steps_for(int steps, Index cells);

// What a step at the full rate changes an element of a key and of a value by. loss: L before the first step;
// value_square: the mean square of an element of V'.
float refine_key_rate(const HeadProblem& problem, double loss);
float refine_value_rate(float value_square, double loss);

// The share of the rate that step `step` of `count` takes: up to 1 in the warm-up, then down to a tenth.
float refine_share_of_rate(Index step, Index count);

// Queries in a shuffled order, the same for all heads, that starts anew when it is used up.
class RefineOrder {
  public:
    explicit RefineOrder(Index queries);

    std::vector<Index> draw(); // of one batch: min(n, kRefineBatch)

  private:
    Index next();

    std::vector<Index> order_;
    size_t next_;
    std::mt19937 random_{1};
};

// Adam steps on K' and V' over seeded batches of kRefineBatch queries, V' fitted once before them. A step
// changes a typical logit by sqrt(L) / 2, but 0.2 at most, and a typical value by half as much of its size;
// these rates rise over the first fifth of the steps and fall to a tenth over the others. Only the keys are
// kept, for solve_head fits values to them when they are rounded, and those that were given are unless the
// loss over all queries is lower afterwards. values: V_sel: [t, dv], the anchor of the first fit, as in
// values.h. The cost of a step is that of five products [512, t] x [t, d]. Fails as fit_values does.
Status refine_keys(const HeadProblem& problem, const FullAttention& full, const Matrix& values, int steps,
                   Matrix& keys);

} // namespace kvfold
