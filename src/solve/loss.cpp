#include "solve/loss.h"

#include <algorithm>
#include <limits>

namespace kvfold {

double matching_loss(const FullAttention& full, const CompactAttention& compact, const Matrix& values) {
    const Matrix error = compact.probabilities * values - full.output;
    const double mass = (compact.mass - full.mass).cwiseProduct(full.roots).squaredNorm();
    return (error.squaredNorm() / mean_square(full.output) + kMassWeight * mass) /
           static_cast<double>(full.mass.size());
}

float mean_square(const Matrix& output) {
    const float square = output.squaredNorm() / static_cast<float>(output.rows());
    return std::max(square, std::numeric_limits<float>::min());
}

} // namespace kvfold
