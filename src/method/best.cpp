#include "method/method.h"

namespace kvfold::methods {

const Method best = {
    .name = "best",
    .advice = "as good as three prefills' time buys, on any model",
    .study = scaled_study,
    .solve = plans::scaled,
    .budget = 3,
};

} // namespace kvfold::methods
