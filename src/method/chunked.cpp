#include "method/method.h"

namespace kvfold::methods {

// refine, a chunk at a time: what earlier chunks became stays as it is.
const Method chunked = {
    .name = "chunked",
    .advice = "refine chunk by chunk, also while a text is read: memory stays bounded by the chunk, whatever "
              "the length",
    .study = solver_study,
    .solve = {.refine_steps = 36},
    .chunk = kDefaultChunk,
};

} // namespace kvfold::methods
