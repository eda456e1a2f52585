#include "method/method.h"

namespace kvfold::methods {

// Attention matching on queries that cost less than a prefill: the newest tokens, text that looks like the
// context, and samples of the context itself.
const Method solver = {
    .name = "solver",
    .advice = "attention matching on queries at prefill speed",
    .study = solver_study,
};

} // namespace kvfold::methods
