#include "fit/nonuniform.h"

#include "fit/at_once.h"
#include "fit/solve_layers.h"
#include "solve/allocate.h"
#include "solve/loss.h"
#include "solve/neutral.h"

#include <algorithm>

namespace kvfold {

namespace {

// t/4, t/2, t and 2t, each once and no more than there are cells.
std::vector<Index> points_around(Index budget, Index cells) {
    std::vector<Index> points = {budget / 4, budget / 2, budget, 2 * budget};
    for (Index& point : points)
        point = std::clamp<Index>(point, 1, cells);
    points.erase(std::unique(points.begin(), points.end()), points.end());
    return points;
}

// [heads][points]
Result<std::vector<std::vector<double>>> measure_errors(RegionProblem problem, const Study& study,
                                                        std::span<const Index> points) {
    SolvePlan plan = problem.solve;
    plan.refine_steps = 0; // it lowers all points of a curve
    std::vector<std::vector<double>> errors;
    for (const Index point : points) {
        problem.slots = static_cast<uint32_t>(point);
        KVFOLD_TRY(const Solution solution, solve_layers(problem, study, plan));
        errors.resize(solution.heads.size());
        for (size_t head = 0; head < errors.size(); ++head) {
            const double output = solution.heads[head].output_error, mass = solution.heads[head].mass_error;
            errors[head].push_back(output * output + kMassWeight * mass * mass);
        }
    }
    return errors;
}

std::vector<uint32_t> evenly_spread(Index rows, Index slots) {
    std::vector<uint32_t> places;
    for (Index row = 1; row <= rows; ++row)
        places.push_back(static_cast<uint32_t>(row * slots / rows - 1));
    return places;
}

// `budget` of the slots that the task asks for, the others neutral.
Result<CompactHead> solve_in_slots(const HeadTask& task, const SolvePlan& plan, Index budget) {
    SolveRequest smaller = task.request;
    smaller.kept = budget;
    KVFOLD_TRY(CompactHead head, task.kernels.solve_head(task.problem, plan, smaller));
    const Index slots = task.request.kept;
    if (budget == slots) return head;
    const Vector mass = task.kernels.attend_compact(task.problem, head.keys).mass;
    KVFOLD_TRY(const std::optional<Vector> neutral,
               task.kernels.neutral_key(task.problem, mass, task.request.round_keys));
    if (!neutral) return task.kernels.solve_head(task.problem, plan, task.request);
    return spread_head(head, *neutral, evenly_spread(budget, slots), slots);
}

Result<Solution> solve_with_budgets(RegionProblem problem, const Study& study) {
    const auto points = points_around(problem.slots, std::ssize(problem.regions.region));
    KVFOLD_TRY(const auto errors, measure_errors(problem, study, points));
    const auto total = static_cast<Index>(problem.slots) * std::ssize(errors);
    const std::vector<Index> budgets = allocate_cells(points, errors, total);
    problem.slots = static_cast<uint32_t>(*std::max_element(budgets.begin(), budgets.end()));
    const auto solve = [&](const HeadTask& task) {
        return solve_in_slots(task, problem.solve, budgets[task.index]);
    };
    return solve_layers(problem, study, solve);
}

double mean_neutral(std::span<const HeadReport> heads) {
    double mean = 0;
    for (const HeadReport& head : heads)
        mean += static_cast<double>(head.neutral) / static_cast<double>(heads.size());
    return mean;
}

} // namespace

Result<Fitted> fit_nonuniform(const RegionProblem& problem) {
    KVFOLD_TRY(Fitted fitted, study_and_solve(problem, solve_with_budgets));
    fitted.figures = {{"neutral cells", mean_neutral(fitted.solution.heads)}};
    return fitted;
}

} // namespace kvfold
