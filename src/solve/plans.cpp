#include "solve/plans.h"

#include <array>

namespace kvfold {

Result<SolvePlan> find_plan(std::string_view name) {
    struct Named {
        std::string_view name;
        SolvePlan plan;
    };
    static constexpr std::array kPlans = {Named{"select", plans::select}, Named{"solver", plans::solver},
                                          Named{"omp", plans::omp}, Named{"refine", plans::refine},
                                          Named{"omp_refine", plans::omp_refine}};
    std::string names;
    for (const Named& known : kPlans) {
        if (known.name == name) return known.plan;
        names += (names.empty() ? "" : ", ") + std::string(known.name);
    }
    return fail(ErrorCode::invalid_argument, "no method '{}' for a head; there are {}", name, names);
}

} // namespace kvfold
