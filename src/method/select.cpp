#include "method/method.h"

namespace kvfold::methods {

// The cells that the newest tokens attend to most, as they are: no bias, no new values. What eviction
// methods such as SnapKV do, chosen for each KV head.
const Method select = {
    .name = "select",
    .advice = "keeps the most attended cells unchanged",
    .study = {.parts = {{Source::tail, 0.125f}}, .max_tokens_a_part = 512},
    .solve = plans::select,
};

} // namespace kvfold::methods
