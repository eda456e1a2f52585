// How much more memory this process took at its peak, measured by the operating system.
#pragma once

#include <cstddef>
#include <optional>

namespace kvfold {

// Starts at construction. Counts resident memory beyond what was resident then, memory of other threads
// included; freed memory that the allocator holds is given back first, so that it counts when it is used
// again.
class PeakMemory {
  public:
    PeakMemory();
    std::optional<size_t> extra_bytes() const; // empty where the system does not tell (only Linux does)

  private:
    std::optional<size_t> before_;
};

} // namespace kvfold
