#include "solve/solve_head.h"

#include "solve/absorb.h"
#include "solve/attention.h"
#include "solve/bias.h"
#include "solve/omp.h"
#include "solve/refine.h"
#include "solve/select.h"
#include "solve/values.h"

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

CompactHead keep_all(const HeadProblem& problem) {
    CompactHead head;
    head.kept.resize(static_cast<size_t>(problem.keys.rows()));
    std::iota(head.kept.begin(), head.kept.end(), 0u);
    head.keys = problem.keys;
    head.values = problem.values;
    return head;
}

std::vector<uint32_t> choose_cells(const HeadProblem& problem, const FullAttention& full, float pursued,
                                   const SolveRequest& request) {
    const auto by_pursuit = static_cast<Index>(std::lround(pursued * static_cast<float>(request.kept)));
    const Index by_score = std::max<Index>(std::ssize(request.pinned), request.kept - by_pursuit);
    const std::vector<uint32_t> surest = select_cells(full.score, by_score, request.pinned);
    return by_score == request.kept ? surest : pursue_cells(problem, full, request.kept, surest);
}

float relative_error(const Matrix& actual, const Matrix& wanted) {
    const float error = (actual - wanted).norm();
    return error == 0 ? 0 : error / std::max(wanted.norm(), std::numeric_limits<float>::min());
}

Status check_result(const CompactHead& head) {
    if (head.keys.allFinite() && head.values.allFinite() && std::isfinite(head.output_error) &&
        std::isfinite(head.mass_error) && std::isfinite(head.absorb_residual)) {
        return {};
    }
    return fail(ErrorCode::numeric, "head: the fit overflows f32; scale keys, queries or values down");
}

} // namespace

Result<CompactHead> solve_head(const HeadProblem& problem, const SolvePlan& plan,
                               const SolveRequest& request) {
    KVFOLD_CHECK(check_shapes(problem));
    KVFOLD_CHECK(check_request(request, problem.keys.rows()));
    KVFOLD_CHECK(check_numbers(problem));
    if (request.kept == problem.keys.rows()) return keep_all(problem);

    const FullAttention full = attend_all(problem);
    CompactHead head;
    head.kept = choose_cells(problem, full, plan.pursued, request);
    head.keys = problem.keys(head.kept, Eigen::all);
    head.values = problem.values(head.kept, Eigen::all);

    if (plan.fit_bias) {
        const Matrix shares = mass_shares(problem, head.keys, full.mass);
        KVFOLD_TRY(const Vector bias, fit_bias(shares));
        KVFOLD_TRY(head.absorb_residual, absorb_bias(problem, shares, full.mass, bias, head.keys));
    }
    if (plan.refine_steps > 0) {
        KVFOLD_CHECK(refine_keys(problem, full, head.values, plan.refine_steps, head.keys));
    }
    if (request.round_keys) request.round_keys(head.keys);
    if (!head.keys.allFinite()) {
        return fail(ErrorCode::numeric, "head: the compact keys overflow the cache type; use a wider one");
    }

    const CompactAttention compact = attend_compact(problem, head.keys);
    if (plan.fit_values) KVFOLD_CHECK(fit_values(compact.probabilities, full.output, head.values));

    head.output_error = relative_error(compact.probabilities * head.values, full.output);
    head.mass_error = mass_error(compact.mass, full.mass);
    KVFOLD_CHECK(check_result(head));
    return head;
}

} // namespace kvfold
