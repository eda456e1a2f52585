// What operator new has given to this thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvfold::testing {

// The most bytes that were held at once, beyond those held when it was made. A program that uses it links
// allocations.cpp, which replaces operator new. One a thread at a time.
class AllocationPeak {
  public:
    AllocationPeak();
    size_t bytes() const;

  private:
    int64_t held_before_;
};

} // namespace kvfold::testing
