#include "base/parallel.h"

#include <gtest/gtest.h>

#include <chrono>
#include <mutex>
#include <set>

namespace kvfold {
namespace {

TEST(ParallelFor, DoesEveryJobOnce) {
    for (const int threads : {-1, 0, 1, 2, 7, 64}) {
        for (const size_t count : {0u, 1u, 5u, 1000u}) {
            std::vector<std::atomic<int>> done(count);
            parallel_for(count, threads, [&](size_t i) {
                ++done[i];
                return true;
            });
            for (const auto& times : done)
                ASSERT_EQ(times, 1);
        }
    }
}

TEST(ParallelFor, UsesNoMoreThreadsThanAskedForAndTheCallersAmongThem) {
    for (const int threads : {0, 1, 3}) {
        std::mutex mutex;
        std::set<std::thread::id> seen;
        std::atomic<int> at_work = 0, most = 0;
        parallel_for(60, threads, [&](size_t) {
            const int now = ++at_work;
            for (int before = most; now > before && !most.compare_exchange_weak(before, now);) {
            }
            {
                const std::lock_guard lock(mutex);
                seen.insert(std::this_thread::get_id());
            }
            std::this_thread::sleep_for(std::chrono::microseconds(200));
            --at_work;
            return true;
        });
        EXPECT_LE(most, std::max(threads, 1));
        EXPECT_LE(seen.size(), static_cast<size_t>(std::max(threads, 1)));
        if (threads <= 1) {
            EXPECT_EQ(seen, std::set{std::this_thread::get_id()});
        }
    }
}

TEST(ParallelFor, HandsOutNothingMoreOnceAJobSaysStop) {
    std::vector<size_t> done;
    parallel_for(100, 1, [&](size_t i) {
        done.push_back(i);
        return i < 3;
    });
    EXPECT_EQ(done, (std::vector<size_t>{0, 1, 2, 3}));

    // On several threads those that run already finish; each of them takes at most one more.
    std::atomic<int> started = 0;
    parallel_for(100000, 4, [&](size_t) {
        ++started;
        return false;
    });
    EXPECT_GE(started, 1);
    EXPECT_LE(started, 4);
}

} // namespace
} // namespace kvfold
