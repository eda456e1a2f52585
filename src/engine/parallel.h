// A bounded number of threads over independent jobs.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace kvfold {

// Runs job(i) for i in [0, count) on at most `threads` threads, the caller's among them. job returns false to
// stop handing out further jobs. Must not throw.
template <class Job> void parallel_for(size_t count, int threads, Job&& job) {
    std::atomic<size_t> next = 0;
    std::atomic<bool> stop = false;
    const auto work = [&] {
        for (size_t i; !stop && (i = next.fetch_add(1)) < count;) {
            if (!job(i)) stop = true;
        }
    };
    std::vector<std::jthread> helpers;
    const size_t wanted = std::min(count, static_cast<size_t>(std::max(threads, 1)));
    for (size_t i = 1; i < wanted; ++i)
        helpers.emplace_back(work);
    work();
}

} // namespace kvfold
