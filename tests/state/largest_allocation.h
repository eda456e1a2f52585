// The largest single request to operator new since it was last set to 0: a count that is believed before it
// is checked shows here.
#pragma once

#include <cstddef>

namespace kvfold::testing {
extern size_t largest_allocation;
}
