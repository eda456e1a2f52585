#include "method/method.h"

namespace kvfold::methods {

namespace {

StudyPlan with_drafts(StudyPlan plan, float share) {
    plan.draft_share = share;
    return plan;
}

} // namespace

// refine on what the model itself writes after the context as well (arXiv 2602.16284, section 4).
const Method self_study = {
    .name = "self_study",
    .advice = "refine plus questions and answers that the model drafts; slower",
    .study = with_drafts(solver_study, 0.25f),
    .solve = plans::refine,
};

} // namespace kvfold::methods
