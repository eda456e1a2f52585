#include "method/method.h"

namespace kvfold::methods {

// The only method that needs no tokens of the sequence: a state whose text is not known can still be asked.
const Method generation = {
    .name = "generation",
    .advice = "for caches whose text is not known: the model's own words ask",
    .study = {.parts = {}, .draft_share = 0.375f},
    .solve = plans::refine,
};

} // namespace kvfold::methods
