// The solver, compiled for several instruction sets. A build for one machine has one set; a distribution's
// build carries several and takes the best that the processor has (variants.cmake).
#pragma once

#include "solve/attention.h"
#include "solve/loss.h"
#include "solve/neutral.h"
#include "solve/scan.h"
#include "solve/solve_head.h"

#include <string_view>
#include <vector>

namespace kvfold {

// What other rooms call of this one and what takes time, each function as its own header declares it.
struct Kernels {
    std::string_view name; // of the instruction set
    decltype(&kvfold::solve_head) solve_head;
    decltype(&kvfold::attend_all) attend_all;
    decltype(&kvfold::highest_attention) highest_attention;
    decltype(&kvfold::expected_attention) expected_attention;
    decltype(&kvfold::attend_compact) attend_compact;
    decltype(&kvfold::matching_loss) matching_loss;
    decltype(&kvfold::neutral_key) neutral_key;
};

// Those that this processor can run, the fastest first, never none.
std::vector<const Kernels*> usable_kernels();

// The fastest, or those that $KVFOLD_KERNELS names. Fails with invalid_argument where it names others.
// Decided once for the process.
Result<const Kernels*> chosen_kernels();

// As chosen_kernels decides. wanted: a name; empty = the fastest.
Result<const Kernels*> choose_kernels(const std::vector<const Kernels*>& usable, std::string_view wanted);

} // namespace kvfold
