// In a file of its own: inlined into callers, GCC takes the pair below for a mismatch.
#include "state/largest_allocation.h"

#include <algorithm>
#include <cstdlib>
#include <new>

size_t kvfold::testing::largest_allocation = 0;

void* operator new(size_t size) {
    kvfold::testing::largest_allocation = std::max(kvfold::testing::largest_allocation, size);
    if (void* memory = std::malloc(size)) return memory;
    throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
