#include "method/method.h"

namespace kvfold::methods {

// refine, a chunk at a time: what earlier chunks became stays as it is.
const Method chunked = {
    .name = "chunked",
    .advice = "refine chunk by chunk: memory bounded by a chunk, texts of any length",
    .study = solver_study,
    .solve = plans::refine,
    .chunk = kDefaultChunk,
};

} // namespace kvfold::methods
