#include "solve/values.h"

#include "solve/ridge.h"

namespace kvfold {

Status fit_values(const Matrix& probabilities, const Matrix& output, Matrix& values) {
    Matrix missing = output;
    missing.noalias() -= probabilities * values;
    Matrix rhs(values.rows(), values.cols());
    rhs.noalias() = probabilities.transpose() * missing;
    KVFOLD_TRY(const MatrixD correction, solve_ridge(gram(probabilities), rhs.cast<double>(), kValueRidge));
    values += correction.cast<float>();
    return {};
}

} // namespace kvfold
