#include "method/method.h"

namespace kvfold::methods {

const Method balanced = {
    .name = "balanced",
    .advice = "as good as the prefill's time buys, on any model",
    .study = scaled_study,
    .solve = plans::scaled,
    .budget = 1,
};

} // namespace kvfold::methods
