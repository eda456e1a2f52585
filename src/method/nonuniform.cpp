#include "fit/nonuniform.h"
#include "method/method.h"

namespace kvfold::methods {

// refine with budgets by measured error. All heads share the cells of llama.cpp's cache, so the largest
// budget is what it takes.
const Method nonuniform = {
    .name = "nonuniform",
    .advice = "refine, each head with the cells its error asks for; for comparison",
    .study = solver_study,
    .solve = plans::refine,
    .fit = fit_nonuniform,
};

} // namespace kvfold::methods
