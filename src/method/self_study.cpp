#include "method/method.h"

namespace kvfold::methods {

// Attention matching on what the model itself writes after the context (drafted on a first compact cache,
// arXiv 2602.16284 section 4), beside the sources of solver.
const Method self_study = {
    .name = "self_study",
    .advice = "solver plus questions and answers that the model drafts about the context; slower",
    .study = {.parts = {{Source::tail, 0.125f}, {Source::pseudo, 0.1875f}, {Source::repeat, 0.125f}},
              .draft_share = 0.25f},
};

} // namespace kvfold::methods
