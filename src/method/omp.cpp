#include "method/method.h"

namespace kvfold::methods {

// solver on cells that are chosen together and not one by one: cells that say the same stay once.
const Method omp = {
    .name = "omp",
    .advice = "solver on cells chosen together, by pursuit of mass and output",
    .study = solver_study,
    .solve = plans::omp,
};

} // namespace kvfold::methods
