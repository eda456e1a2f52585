#include "fit/at_once.h"

#include "base/timer.h"
#include "fit/solve_layers.h"
#include "fit/study_region.h"

namespace kvfold {

Result<Fitted> study_and_solve(const RegionProblem& problem, const SolveRegion& solve) {
    Fitted fitted;
    const Timer study_timer;
    KVFOLD_TRY(const Study study, study_region(problem));
    fitted.study_s = study_timer.seconds();
    fitted.study_tokens = study.tokens();

    const Timer solve_timer;
    KVFOLD_TRY(fitted.solution, solve(problem, study));
    fitted.solve_s = solve_timer.seconds();
    return fitted;
}

Result<Fitted> fit_at_once(const RegionProblem& problem) {
    return study_and_solve(problem, [](const RegionProblem& region, const Study& study) {
        return solve_layers(region, study, region.solve);
    });
}

} // namespace kvfold
