// Compiled once for each instruction set, together with the functions that it names.
#include "solve/variants.h"

namespace kvfold {

// constinit: code that ran when the program is loaded would run on processors that cannot run it.
constinit const Kernels KVFOLD_KERNELS_SYMBOL = {
    .name = KVFOLD_KERNELS_NAME,
    .solve_head = &solve_head,
    .attend_all = &attend_all,
    .highest_attention = &highest_attention,
    .expected_attention = &expected_attention,
    .attend_compact = &attend_compact,
    .matching_loss = &matching_loss,
    .neutral_key = &neutral_key,
};

} // namespace kvfold
