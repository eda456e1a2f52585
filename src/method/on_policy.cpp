#include "fit/on_policy.h"
#include "method/method.h"

namespace kvfold::methods {

// refine, then asked again with the compact cache in place: what later layers ask depends on what earlier
// ones found, and in a compact cache they find something slightly else.
const Method on_policy = {
    .name = "on_policy",
    .advice = "refine, refitted to queries asked on its own cache; measured no better",
    .study = solver_study,
    .solve = plans::refine,
    .fit = fit_on_policy,
};

} // namespace kvfold::methods
