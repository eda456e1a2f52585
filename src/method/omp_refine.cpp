#include "method/method.h"

namespace kvfold::methods {

// refine with 1.7 times the queries, half of the cells chosen as omp does and five times as many gradient
// steps. Pursuit drops what few queries ask for, so the dense spans are recited twice, in two orders.
const Method omp_refine = {
    .name = "omp_refine",
    .advice = "refine with more queries and steps, half of the cells by pursuit",
    .study = {.parts = {{Source::tail, 0.140625f},
                        {Source::pseudo, 0.171875f},
                        {Source::repeat, 0.09375f},
                        {Source::recite, 0.09375f},
                        {Source::recite, 0.09375f}},
              .tokens_a_cell = solver_study.tokens_a_cell,
              .least_tokens = solver_study.least_tokens},
    .solve = plans::omp_refine,
};

} // namespace kvfold::methods
