// In a file of its own: inlined into callers, GCC takes new and delete below for a mismatch.
#include "fuzz/allocations.h"

#include <algorithm>
#include <cstdlib>
#include <malloc.h>
#include <new>

namespace {

// Signed: what another thread has allocated may be freed here.
thread_local int64_t held = 0, peak = 0;

void count(int64_t bytes) {
    held += bytes;
    peak = std::max(peak, held);
}

void release(void* memory) {
    if (memory != nullptr) count(-static_cast<int64_t>(malloc_usable_size(memory)));
    std::free(memory);
}

} // namespace

namespace kvfold::testing {

AllocationPeak::AllocationPeak() : held_before_(held) { peak = held; }

size_t AllocationPeak::bytes() const { return static_cast<size_t>(peak - held_before_); }

} // namespace kvfold::testing

void* operator new(size_t size, const std::nothrow_t&) noexcept {
    void* memory = std::malloc(size);
    if (memory != nullptr) count(static_cast<int64_t>(malloc_usable_size(memory)));
    return memory;
}
void* operator new(size_t size) {
    if (void* memory = operator new(size, std::nothrow)) return memory;
    throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { release(memory); }
void operator delete(void* memory, size_t) noexcept { release(memory); }
