// Which cells stay: orthogonal matching pursuit on the attention mass and output together.
#pragma once

#include "solve/attention.h"
#include "solve/ridge.h"

#include <cstdint>
#include <span>
#include <vector>

namespace kvfold {

inline constexpr double kPursuitRidge = 1e-3;
inline constexpr Index kPursuitSteps = 16;     // keys are taken in about so many steps, whatever t
inline constexpr Index kPursuitCandidates = 4; // cells that are looked at for each that is pursued
// A cell of the pool is dropped when its gain has fallen below this part of what the best cell outside the
// pool offered when the pool was made.
inline constexpr float kWorthless = 0.5f;
// Steps after which nothing is dropped any more: a context of repeated tokens would take a step a cell.
inline constexpr Index kPursuitPatience = 2 * kPursuitSteps;

// Cells that a step takes at most, and that pursuit looks at: M. given: pinned cells among the kept.
Index pursuit_step(Index kept);
Index pursuit_candidates(Index cells, Index kept, Index given);

// What pursuit knows of the cells that it keeps, and what comes after it needs too.
struct KeptCells {
    std::vector<uint32_t> cells; // [t] rising
    Matrix shares;               // A_C: [n, t]
    MatrixD gram;                // A_C^T A_C: [t, t]
};

// A: [n, M] = r_i exp(S_ij - m_i), the mass shares of the candidates: the M = min(T, p + 4 (t - p)) cells of
// the best RMS score, the p pinned ones among them. With B = [r, Y / y]: [n, 1 + dv], y^2 = mean_i ||Y_i||^2,
// take the cells C, greedily, for which this is least:
//
//   min_Z ||A_C Z - B||^2 + lambda ||Z||^2,   lambda = 1e-3 x mean squared norm of the t heaviest columns
//
// Z's first column are weights of the mass, as in bias.h; the others are w_j V'_j / y, free because the
// values are fitted later. With R = B - A_C Z, and a_j less its projection on the chosen columns as a'_j,
// taking cell j lowers the minimum by exactly
//
//   gain_j = ||a_j^T R||^2 / (||a'_j||^2 + lambda)
//
// A mass weight cannot be negative, so the part of the mass counts only where its correlation is positive.
//
// Pinned cells come first, all at once. Then each step puts the t/16 best cells into a pool and takes them
// one by one, the best first, by gains that know of those taken before; a cell that others have made
// worthless meanwhile is dropped and the next step fills its place. The factor of A_C^T A_C + lambda I grows
// by a column a cell, and is kept for all candidates at once: U: [M, t] with rows U_C its lower triangle. So
// a cell costs M (t + dv) beside the M^2 n / 2 of A^T A, which is one product: a product of A with each pool
// reads A at every step, and took twice as long. Nothing is ever factored again. Equal gains go to the lower
// index. Memory: M (n + M + t + t/16 + dv) floats.
//
// Measured on a prototype, not on this code (SmolLM2, T 2048, 8x, KL as a share of keep_last's, two texts, no
// refinement): RMS score 0.43; the mass alone with one weight a cell, w >= 0 and tiny weights dropped, as in
// arXiv 2602.16284, 0.38; mass and output with one weight a cell and fixed values 0.34; free values 0.31.
// What did not help: half of the cells by RMS score first (0.32), a ridge of 1e-1 (0.36); on one text, one
// run each, a ridge of 1e-4 and all T cells as candidates.
//
// REQUIRES: as select_cells; full = attend_all(problem).
KeptCells pursue_cells(const HeadProblem& problem, const FullAttention& full, Index kept,
                       std::span<const uint32_t> pinned);

} // namespace kvfold
