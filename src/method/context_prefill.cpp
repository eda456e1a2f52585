#include "method/method.h"

namespace kvfold::methods {

// Attention matching on the queries of the context itself. Weak: early queries look at early cells.
const Method context_prefill = {
    .name = "context_prefill",
    .advice = "solver on the queries of the prefill itself; for comparison",
    .study = {.parts = {{Source::prefill, 1.0f}}},
};

} // namespace kvfold::methods
