#include "method/method.h"

namespace kvfold::methods {

// refine with twice the gradient steps, and a quarter of the cells chosen by omp.
const Method omp_refine = {
    .name = "omp_refine",
    .advice = "refine with some cells chosen by pursuit, and twice the gradient steps",
    .study = solver_study,
    .solve = {.refine_steps = 72, .selection = Selection::rms_then_omp},
};

} // namespace kvfold::methods
