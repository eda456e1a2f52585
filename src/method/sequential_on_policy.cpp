#include "fit/sequential.h"
#include "method/method.h"

namespace kvfold::methods {

// Layers in order, each group asked with the groups before it compact (arXiv 2602.16284).
const Method sequential_on_policy = {
    .name = "sequential_on_policy",
    .advice = "refine by groups of layers, those before compact; measured no better",
    .study = solver_study,
    .solve = plans::refine,
    .fit = fit_sequentially,
};

} // namespace kvfold::methods
