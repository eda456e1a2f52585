#include "base/parallel.h"

#include <gtest/gtest.h>

#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>

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

// Where one thread waits for the others, so that it is known who throws.
constexpr int kThreads = 4;

struct Gathering {
    std::atomic<int> arrived = 0;
    void wait_for_all() {
        ++arrived;
        while (arrived < kThreads)
            std::this_thread::yield();
    }
};

// Runs a job a thread; those for which `throws` is true throw. Returns what came out.
template <class Throws> std::string thrown_by(Throws throws) {
    const std::thread::id caller = std::this_thread::get_id();
    Gathering gathering;
    try {
        parallel_for(kThreads, kThreads, [&](size_t) {
            gathering.wait_for_all();
            if (throws(std::this_thread::get_id() == caller)) throw std::runtime_error("a job threw");
            return true;
        });
    } catch (const std::runtime_error& error) {
        return error.what();
    }
    return "nothing";
}

TEST(ParallelFor, WhatAJobThrowsComesOutInTheCallersThread) {
    EXPECT_EQ(thrown_by([](bool is_caller) { return is_caller; }), "a job threw");
    EXPECT_EQ(thrown_by([](bool is_caller) { return !is_caller; }), "a job threw"); // several at once
    EXPECT_EQ(thrown_by([](bool) { return true; }), "a job threw");
    EXPECT_EQ(thrown_by([](bool) { return false; }), "nothing");
    std::atomic<bool> first = true; // a single helper
    EXPECT_EQ(thrown_by([&](bool is_caller) { return !is_caller && first.exchange(false); }), "a job threw");
}

TEST(ParallelFor, HandsOutNothingMoreOnceAJobThrows) {
    std::vector<size_t> done;
    const auto job = [&](size_t i) {
        done.push_back(i);
        if (i == 3) throw std::bad_alloc();
        return true;
    };
    EXPECT_THROW(parallel_for(100, 1, job), std::bad_alloc);
    EXPECT_EQ(done, (std::vector<size_t>{0, 1, 2, 3}));
}

} // namespace
} // namespace kvfold
