#include "method/method.h"

namespace kvfold::methods {

// solver with a quarter of the cells chosen as omp does, and then the keys themselves are moved by a few
// gradient steps.
const Method refine = {
    .name = "refine",
    .advice = "solver, some cells chosen by pursuit, and gradient steps on the keys",
    .study = solver_study,
    .solve = plans::refine,
};

} // namespace kvfold::methods
