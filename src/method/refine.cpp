#include "method/method.h"

namespace kvfold::methods {

// solver, and then the keys themselves are moved by a few gradient steps.
const Method refine = {
    .name = "refine",
    .advice = "solver plus gradient steps on the keys",
    .study = solver_study,
    .solve = {.refine_steps = 36},
};

} // namespace kvfold::methods
