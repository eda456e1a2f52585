// A method: a study plan, a solve plan and a fit strategy under one name. A new method is one file in this
// folder and one line in method.cpp.
#pragma once

#include "fit/at_once.h"
#include "solve/plans.h"

#include <span>
#include <string_view>

namespace kvfold {

struct Method {
    std::string_view name;
    std::string_view advice; // one line: when to take it
    Keep keep = Keep::fit;
    StudyPlan study = {};
    SolvePlan solve = {};
    FitStrategy fit = fit_at_once; // how study and solve go together; for Keep::fit
    // Prefills that study and solve may cost, on the model at hand: the plans are then those of the effort
    // that this buys (method/effort.h). 0: the plans are as written.
    double budget = 0;
    size_t chunk = 0; // cells that are folded at a time; 0 = all at once (engine/chunks.h)
};

namespace methods {
// The queries of solver, shared by the methods that build on it: inline, because it is used to initialise
// them. As few as keep study and solve of refine below a prefill at 8x: half as many again are better by a
// tenth there and by a third at 4x. Below 4x they grow with the cells kept, else 2x had 1.8 times the KL;
// and what little is new of a conversation is too little to fit to (docs/methods.md).
inline const StudyPlan solver_study = {.parts = {{Source::tail, 0.125f},
                                                 {Source::pseudo, 0.0625f},
                                                 {Source::repeat, 0.0625f},
                                                 {Source::recite, 0.09375f}},
                                       .tokens_a_cell = 1.375f,
                                       .least_tokens = 256};

constexpr size_t kDefaultChunk = 1024; // as much as a study of a few hundred tokens can ask about

extern const Method balanced, best, fast, keep_first, keep_last, keep_random, select, solver, omp, refine,
    omp_refine, on_policy, sequential_on_policy, nonuniform, context_prefill, self_study, generation, chunked;
} // namespace methods

// All methods, the best first. The first is the default.
std::span<const Method* const> all_methods();
const Method& default_method();

// By its name. Fails with invalid_argument, naming those that exist.
Result<const Method*> find_method(std::string_view name);

} // namespace kvfold
