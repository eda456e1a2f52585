#include "method/method.h"

namespace kvfold::methods {

// Baseline: what a fold would leave, with cells drawn by lot in the place of the folded ones. Whatever beats
// it by little has chosen little.
const Method keep_random = {
    .name = "keep_random",
    .advice = "baseline: keeps the first few, the newest and others drawn by lot",
    .keep = Keep::random,
};

} // namespace kvfold::methods
