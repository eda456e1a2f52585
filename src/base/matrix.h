// The matrix types of kvfold: row-major f32, one row a cell, query or token.
#pragma once

#include <Eigen/Core>

#ifdef KVFOLD_HAS_VARIANTS
static_assert(EIGEN_DEFAULT_ALIGN_BYTES == 64,
              "variants of the solver (cmake/variants.cmake) share matrices");
#endif

namespace kvfold {

using Index = Eigen::Index;
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXf;

// Views carry rows, cols and the distance between rows; a head is a view into its layer's matrix.
using MatrixView = Eigen::Ref<const Matrix, 0, Eigen::OuterStride<>>;
using MutableMatrixView = Eigen::Ref<Matrix, 0, Eigen::OuterStride<>>;

} // namespace kvfold
