// A method: a named study plan and a named solve plan. A new method is one file in this folder and one line
// in method.cpp.
#pragma once

#include "solve/solve_head.h"
#include "study/study.h"

#include <span>
#include <string_view>

namespace kvfold {

struct Method {
    enum class Keep : uint8_t {
        fit,    // fold the region by study and solve
        newest, // baseline: drop all but the first few and the newest cells
        oldest, // baseline: drop all but the first cells and the newest one
        random, // baseline: as newest, but most cells drawn by lot, the same in all heads
    };

    // What stands in the scratch context when the model is asked.
    enum class Policy : uint8_t {
        full,       // the full cache
        refit,      // the full cache, then the compact one, and what is solved is fitted again
        sequential, // group after group of layers, those before it compact
    };

    std::string_view name;
    std::string_view advice; // one line: when to take it
    Keep keep = Keep::fit;
    StudyPlan study = {};
    SolvePlan solve = {};
    Policy policy = Policy::full;
    bool own_budgets = false; // each layer and KV head has as many cells as its error asks for
    size_t chunk = 0;         // cells that are folded at a time; 0 = all at once (engine/chunked.h)
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

// What refine solves, likewise.
inline const SolvePlan refine_solve = {.refine_steps = 12, .pursued = 0.25f};

constexpr size_t kDefaultChunk = 1024; // as much as a study of a few hundred tokens can ask about

extern const Method keep_first, keep_last, keep_random, select, solver, omp, refine, omp_refine, on_policy,
    sequential_on_policy, nonuniform, context_prefill, self_study, generation, chunked;
} // namespace methods

// All methods, the best first. The first is the default.
std::span<const Method* const> all_methods();
const Method& default_method();

// A name for those who do not want to choose between methods.
struct Preset {
    std::string_view name;
    const Method* method;
};

// The cheapest first.
std::span<const Preset> all_presets();

// By the name of a method or a preset. Fails with invalid_argument, naming those that exist.
Result<const Method*> find_method(std::string_view name);

} // namespace kvfold
