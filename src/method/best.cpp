#include "method/method.h"

namespace kvfold::methods {

namespace {

StudyPlan with_drafts(StudyPlan plan) {
    plan.draft_share = 0.125f;
    return plan;
}

} // namespace

const Method best = {
    .name = "best",
    .advice = "as good as three prefills' time buys, on any model",
    .study = with_drafts(scaled_study),
    .solve = plans::scaled,
    .budget = 3,
};

} // namespace kvfold::methods
