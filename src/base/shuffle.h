// A random order that the seed alone decides: the standard's shuffle differs between libraries, and the same
// seed shall give the same cache and the same made-up text.
#pragma once

#include <cstddef>
#include <utility>

namespace kvfold {

// The first `count` items in random order. rng: a standard generator of 32 or 64 bits.
template <class Items, class Rng> void shuffle_first(Items& items, size_t count, Rng& rng) {
    for (size_t i = count; i > 1; --i)
        std::swap(items[i - 1], items[rng() % i]);
}

} // namespace kvfold
