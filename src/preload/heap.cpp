#include "preload/heap.h"

#include <cstdlib>
#include <cstring>
#ifdef __GLIBC__ // <cstdlib> says it
#include <malloc.h>
#endif

namespace kvfold::preload {

void return_large_blocks() {
#ifdef __GLIBC__
    constexpr int kLarge = 128 << 10; // glibc's own default, which does not move once it was set
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
