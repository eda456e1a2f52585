// Ridge least squares by normal equations, shared by the steps of attention matching.
#pragma once

#include "base/result.h"

#include <Eigen/Core>

namespace kvfold {

// Systems of t or d unknowns are solved in double: it costs little beside the f32 products over n, and the
// condition number 1 / (ridge / largest eigenvalue) reaches 10^6.
using MatrixD = Eigen::MatrixXd;
using VectorD = Eigen::VectorXd;

// A: [n, t] -> A^T A: [t, t]. Half the products, in f32, then mirrored.
MatrixD
gram(const Eigen::Ref<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>& a);

// Mean eigenvalue of a Gram matrix: trace / t.
double mean_eigenvalue(const MatrixD& gram);

// gram: [t, t], rhs: [t, c] -> Z: [t, c] = argmin ||A Z - B||^2 + lambda ||Z||^2, where gram = A^T A,
// rhs = A^T B and lambda = ridge * mean eigenvalue:
//
//   (A^T A + lambda I) Z = A^T B      by Cholesky
//
// The ridge makes the system definite where A has fewer rows than columns or repeated columns. Rounding in
// the f32 Gram can still leave a negative eigenvalue; lambda then grows tenfold until the factor exists.
// Fails with numeric when the Gram is not finite or no lambda up to the mean eigenvalue itself is enough.
Result<MatrixD> solve_ridge(const MatrixD& gram, const MatrixD& rhs, double ridge);

} // namespace kvfold
