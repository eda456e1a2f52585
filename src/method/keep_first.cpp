#include "method/method.h"

namespace kvfold::methods {

// Baseline: the beginning and the newest cell, which every sequence needs to go on.
const Method keep_first = {
    .name = "keep_first",
    .advice = "baseline: keeps the beginning, forgets the rest",
    .keep = Keep::oldest,
};

} // namespace kvfold::methods
