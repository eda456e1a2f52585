#include "method/method.h"

namespace kvfold::methods {

// refine, then asked again with the compact cache in place: what later layers ask depends on what earlier
// ones found, and in a compact cache they find something slightly else.
const Method on_policy = {
    .name = "on_policy",
    .advice = "refine, studied again on its own compact cache, heads refitted where held-out queries gain; "
              "measured no better than refine",
    .study = solver_study,
    .solve = {.refine_steps = 36},
    .policy = Method::Policy::refit,
};

} // namespace kvfold::methods
