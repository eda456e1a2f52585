// A bounded number of threads over independent jobs.
#pragma once

#include "base/result.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

namespace kvfold {

// Runs job(i) for i in [0, count) on at most `threads` threads, the caller's among them. job returns false to
// stop handing out further jobs. What a job throws stops them too, and the first exception is thrown again
// here, in the caller's thread, when all threads have ended. Threads that the system refuses are done
// without.
template <class Job> void parallel_for(size_t count, int threads, Job&& job) {
    std::atomic<size_t> next = 0;
    std::atomic<bool> stop = false;
    std::atomic_flag has_thrown;
    std::exception_ptr thrown;
    const auto work = [&]() noexcept {
        try {
            for (size_t i; !stop && (i = next.fetch_add(1)) < count;) {
                if (!job(i)) stop = true;
            }
        } catch (...) {
            stop = true;
            if (!has_thrown.test_and_set()) thrown = std::current_exception();
        }
    };
    {
        std::vector<std::jthread> helpers; // joined at the end of this block, whatever happens in it
        const size_t wanted = std::min(count, static_cast<size_t>(std::max(threads, 1)));
        try {
            for (size_t i = 1; i < wanted; ++i)
                helpers.emplace_back(work);
        } catch (const std::exception&) { // no thread or no memory for one
        }
        work();
    }
    if (thrown) std::rethrow_exception(thrown);
}

// The same with jobs that can fail: no further ones are handed out then. Returns the error of the first, in
// their order, that did.
template <class Job> Status try_parallel_for(size_t count, int threads, Job&& job) {
    std::vector<Status> done(count);
    parallel_for(count, threads, [&](size_t i) {
        done[i] = job(i);
        return done[i].has_value();
    });
    for (Status& status : done)
        KVFOLD_CHECK(std::move(status));
    return {};
}

} // namespace kvfold
