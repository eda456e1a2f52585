// Allocations that fail: those that kvfold makes, by operator new or (Eigen) by malloc. What llama.cpp
// allocates itself never fails here: it aborts without memory, and no caller can prevent it.
#pragma once

#include <cstddef>

namespace kvfold::testing {

enum class Failing { none, once, from_then_on };

// From now on counts allocations of all threads from 0; the first at `number` or behind that is kvfold's own
// fails, and with from_then_on all others of kvfold too.
void fail_allocations(Failing how, size_t number);

// Ends that. How many allocations were counted, and how many failed.
struct Allocations {
    size_t counted, failed;
};
Allocations stop_failing();

} // namespace kvfold::testing
