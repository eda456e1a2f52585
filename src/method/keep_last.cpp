#include "method/method.h"

namespace kvfold::methods {

// Baseline: what programs do without kvfold, the attention sinks and the newest cells.
const Method keep_last = {
    .name = "keep_last",
    .advice = "baseline: keeps the first few and the newest cells, forgets the rest",
    .keep = Keep::newest,
};

} // namespace kvfold::methods
