#include "solve/check_head.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace kvfold {
namespace {

Status check_shapes(const HeadProblem& problem) {
    const Index cells = problem.keys.rows();
    if (cells == 0 || problem.keys.cols() == 0 || problem.values.cols() == 0 || problem.queries.rows() == 0) {
        return fail(ErrorCode::invalid_argument, "head: empty: keys [{}, {}], values [{}, {}], {} queries",
                    cells, problem.keys.cols(), problem.values.rows(), problem.values.cols(),
                    problem.queries.rows());
    }
    if (problem.values.rows() != cells) {
        return fail(ErrorCode::invalid_argument, "head: {} keys but {} values", cells, problem.values.rows());
    }
    if (problem.queries.cols() != problem.keys.cols()) {
        return fail(ErrorCode::invalid_argument, "head: queries of width {} for keys of width {}",
                    problem.queries.cols(), problem.keys.cols());
    }
    if (!problem.importance.empty() && std::ssize(problem.importance) != problem.queries.rows()) {
        return fail(ErrorCode::invalid_argument, "head: importance of {} queries, and there are {}",
                    problem.importance.size(), problem.queries.rows());
    }
    const auto counts = [](float importance) { return importance > 0 && std::isfinite(importance); };
    if (!std::ranges::all_of(problem.importance, counts))
        return fail(ErrorCode::invalid_argument,
                    "head: the importance of each query must be positive and finite");
    if (!(problem.scale > 0) || !std::isfinite(problem.scale)) {
        return fail(ErrorCode::invalid_argument, "head: scale {} must be positive", problem.scale);
    }
    if (!(problem.softcap >= 0) || !std::isfinite(problem.softcap)) {
        return fail(ErrorCode::invalid_argument, "head: softcap {} must be 0 (off) or positive",
                    problem.softcap);
    }
    return {};
}

Status check_request(const SolveRequest& request, Index cells) {
    if (request.kept < 1 || request.kept > cells) {
        return fail(ErrorCode::invalid_argument, "head: cannot keep {} of {} cells", request.kept, cells);
    }
    if (std::ssize(request.pinned) > request.kept) {
        return fail(ErrorCode::invalid_argument, "head: {} pinned cells but only {} are kept",
                    request.pinned.size(), request.kept);
    }
    for (size_t i = 0; i < request.pinned.size(); ++i) {
        if (request.pinned[i] >= cells || (i > 0 && request.pinned[i] <= request.pinned[i - 1])) {
            return fail(ErrorCode::invalid_argument, "head: pinned cell {} is out of range or not rising",
                        request.pinned[i]);
        }
    }
    return {};
}

// Longest row, in double so that it cannot overflow; NaN or infinity when the matrix holds one.
double longest_row(const MatrixView& rows) {
    return std::sqrt(rows.cast<double>().rowwise().squaredNorm().maxCoeff<Eigen::PropagateNaN>());
}

// |scale q.k| and all its partial sums are at most scale |q| |k| (Cauchy-Schwarz): one look at the input
// makes sure that no logit overflows.
Status check_numbers(const HeadProblem& problem) {
    const double key = longest_row(problem.keys);
    const double query = longest_row(problem.queries);
    if (!std::isfinite(key)) return fail(ErrorCode::numeric, "head: NaN or infinity in the keys");
    if (!std::isfinite(query)) return fail(ErrorCode::numeric, "head: NaN or infinity in the queries");
    if (!problem.values.allFinite()) return fail(ErrorCode::numeric, "head: NaN or infinity in the values");
    const double scale = std::max(1.0, static_cast<double>(problem.scale)); // the scale goes into q first
    if (scale * query * std::max(1.0, key) >= std::numeric_limits<float>::max() / 2) {
        return fail(ErrorCode::numeric, "head: logits overflow: longest query {:.3g}, longest key {:.3g}",
                    query, key);
    }
    return {};
}

} // namespace

Status check_head(const HeadProblem& problem, const SolveRequest& request) {
    KVFOLD_CHECK(check_shapes(problem));
    KVFOLD_CHECK(check_request(request, problem.keys.rows()));
    return check_numbers(problem);
}

Status check_result(const CompactHead& head) {
    if (head.keys.allFinite() && head.values.allFinite() && std::isfinite(head.output_error) &&
        std::isfinite(head.mass_error) && std::isfinite(head.absorb_residual)) {
        return {};
    }
    return fail(ErrorCode::numeric, "head: the fit overflows f32; scale keys, queries or values down");
}

Status check_rounded(const MatrixView& keys) {
    if (keys.allFinite()) return {};
    return fail(ErrorCode::numeric, "head: the compact keys overflow the cache type; use a wider one");
}

CompactHead keep_all(const HeadProblem& problem) {
    CompactHead head;
    head.kept.resize(static_cast<size_t>(problem.keys.rows()));
    std::iota(head.kept.begin(), head.kept.end(), 0u);
    head.keys = problem.keys;
    head.values = problem.values;
    return head;
}

Index cells_by_score(float pursued, const SolveRequest& request) {
    const auto by_pursuit = static_cast<Index>(std::lround(pursued * static_cast<float>(request.kept)));
    return std::max<Index>(std::ssize(request.pinned), request.kept - by_pursuit);
}

} // namespace kvfold
