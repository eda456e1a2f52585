#include "solve/solve_head.h"

#include "solve/absorb.h"
#include "solve/attention.h"
#include "solve/bias.h"
#include "solve/check_head.h"
#include "solve/omp.h"
#include "solve/refine.h"
#include "solve/select.h"
#include "solve/values.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace kvfold {
namespace {

// Without shares and Gram matrix where nothing is pursued.
KeptCells choose_cells(const HeadProblem& problem, const FullAttention& full, float pursued,
                       const SolveRequest& request) {
    const Index by_score = cells_by_score(pursued, request);
    const std::vector<uint32_t> surest = select_cells(full.score, by_score, request.pinned);
    if (by_score == request.kept) return {surest, {}, {}};
    return pursue_cells(problem, full, request.kept, surest);
}

float relative_error(const Matrix& actual, const Matrix& wanted) {
    const float error = (actual - wanted).norm();
    return error == 0 ? 0 : error / std::max(wanted.norm(), std::numeric_limits<float>::min());
}

} // namespace

Result<CompactHead> solve_head(const HeadProblem& problem, const SolvePlan& plan,
                               const SolveRequest& request) {
    KVFOLD_CHECK(check_head(problem, request));
    if (request.kept == problem.keys.rows()) return keep_all(problem);

    const FullAttention full = attend_all(problem);
    CompactHead head;
    KeptCells kept = choose_cells(problem, full, plan.pursued, request);
    head.kept = kept.cells;
    head.keys = problem.keys(head.kept, Eigen::all);
    head.values = problem.values(head.kept, Eigen::all);

    if (plan.fit_bias) {
        if (kept.shares.size() == 0) {
            kept.shares = mass_shares(problem, head.keys, full);
            kept.gram = gram(kept.shares);
        }
        KVFOLD_TRY(const Vector bias, fit_bias(kept.shares, full.roots, std::move(kept.gram)));
        KVFOLD_TRY(head.absorb_residual, absorb_bias(problem, kept.shares, full, bias, head.keys));
    }
    if (plan.refine_steps > 0) {
        KVFOLD_CHECK(refine_keys(problem, full, head.values, plan.refine_steps, head.keys));
    }
    if (request.round_keys) request.round_keys(head.keys);
    KVFOLD_CHECK(check_rounded(head.keys));

    const CompactAttention compact = attend_compact(problem, head.keys);
    if (plan.fit_values) KVFOLD_CHECK(fit_values(compact.probabilities, full.output, head.values));

    head.output_error = relative_error(compact.probabilities * head.values, full.output);
    head.mass_error = mass_error(compact.mass, full);
    KVFOLD_CHECK(check_result(head));
    return head;
}

} // namespace kvfold
