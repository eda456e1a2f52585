#include "solve/ridge.h"

#include <Eigen/Cholesky>

namespace kvfold {

MatrixD
gram(const Eigen::Ref<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>& a) {
    Eigen::MatrixXf lower = Eigen::MatrixXf::Zero(a.cols(), a.cols());
    lower.selfadjointView<Eigen::Lower>().rankUpdate(a.transpose());
    return lower.cast<double>().selfadjointView<Eigen::Lower>();
}

double mean_eigenvalue(const MatrixD& gram) { return gram.trace() / static_cast<double>(gram.rows()); }

Result<MatrixD> solve_ridge(const MatrixD& gram, const MatrixD& rhs, double ridge) {
    const double mean = mean_eigenvalue(gram);
    if (!gram.allFinite() || !rhs.allFinite()) {
        return fail(ErrorCode::numeric, "least squares: the normal equations overflow; scale the input down");
    }
    if (mean == 0)
        return MatrixD(MatrixD::Zero(rhs.rows(), rhs.cols())); // A = 0: every Z fits, take the least
    for (; ridge <= 1; ridge *= 10) {
        MatrixD damped = gram;
        damped.diagonal().array() += ridge * mean;
        const Eigen::LLT<Eigen::Ref<MatrixD>> factor(damped);
        if (factor.info() == Eigen::Success) return MatrixD(factor.solve(rhs));
    }
    return fail(ErrorCode::numeric, "least squares: {} unknowns, not positive definite at any ridge",
                gram.rows());
}

} // namespace kvfold
