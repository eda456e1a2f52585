#include "method/method.h"

namespace kvfold::methods {

// Attention matching on queries that cost one prefill or less: the newest tokens, text that looks like the
// context, and samples of the context itself.
const Method solver = {
    .name = "solver",
    .advice = "attention matching on queries at prefill speed; best quality for its time",
    .study = {.parts = {{Source::tail, 0.125f}, {Source::pseudo, 0.1875f}, {Source::repeat, 0.125f}}},
};

} // namespace kvfold::methods
