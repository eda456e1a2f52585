#include "method/method.h"

namespace kvfold::methods {

// solver, and then the keys themselves are moved by a few gradient steps.
const Method refine = {
    .name = "refine",
    .advice = "solver plus gradient steps on the keys; the best quality that costs no more than a prefill",
    .study = solver_study,
    .solve = {.refine_steps = 36},
};

} // namespace kvfold::methods
