// The methods that follow the model: one study and one solve, scaled until they cost what each of them may
// (effort.h).
#include "method/method.h"

namespace kvfold::methods {
namespace {

// Half of the cells by pursuit and many queries are better where many query heads share a KV head
// (docs/experiments/2026-11-30-effort.md). A long tail is better on text that goes on, and forgets facts
// unless those queries that ask for places keep their say
// (docs/experiments/2026-12-01-importance-in-every-stage.md).
Method method_that_costs(double prefills, std::string_view name, std::string_view advice) {
    return {
        .name = name,
        .advice = advice,
        .study = {.parts = {{Source::tail, 0.28f},
                            {Source::pseudo, 0.0625f},
                            {Source::repeat, 0.0625f},
                            {Source::recite, 0.0625f},
                            {Source::recite, 0.0625f}},
                  .tokens_a_cell = solver_study.tokens_a_cell,
                  .least_tokens = solver_study.least_tokens,
                  .max_queries = 16384,
                  .places_share = 0.6f},
        .solve = {.refine_steps = 12, .pursued = 0.5f},
        .budget = prefills,
    };
}

} // namespace

const Method fast =
    method_that_costs(0.25, "fast", "as good as a quarter of the prefill's time buys, on any model");
const Method balanced = method_that_costs(1, "balanced", "as good as the prefill's time buys, on any model");
const Method best = method_that_costs(3, "best", "as good as three prefills' time buys, on any model");

} // namespace kvfold::methods
