#include "method/method.h"

namespace kvfold::methods {

// refine on the cells of omp, with twice the gradient steps.
const Method omp_refine = {
    .name = "omp_refine",
    .advice = "refine on cells that are chosen together, and more gradient steps; the best quality, twice the solve",
    .study = solver_study,
    .solve = {.refine_steps = 72, .selection = Selection::omp},
};

} // namespace kvfold::methods
