#include "preload/heap.h"

#include <cstdlib>
#include <cstring>
#ifdef __GLIBC__ // <cstdlib> says it
#include <malloc.h>
#endif

namespace kvfold::preload {

void return_large_blocks() {
#ifdef __GLIBC__
    // It does not move once it was set. States are larger, what a solve works with is smaller: with glibc's
    // own 128 KiB every block of a solve was mapped anew, and it took twice as long.
    constexpr int kLarge = 4 << 20;
    const char* const tunables = std::getenv("GLIBC_TUNABLES");
    const bool is_set = std::getenv("MALLOC_MMAP_THRESHOLD_") != nullptr ||
                        (tunables != nullptr && std::strstr(tunables, "mmap_threshold") != nullptr);
    if (!is_set) ::mallopt(M_MMAP_THRESHOLD, kLarge);
#endif
}

void give_memory_back() {
#ifdef __GLIBC__
    ::malloc_trim(0);
#endif
}

} // namespace kvfold::preload
