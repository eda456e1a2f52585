// A mutex that clang's thread-safety analysis knows (-Wthread-safety): it checks that what is guarded is
// touched with the lock held. Other compilers see plain locks.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#ifdef __clang__
#define KVFOLD_THREAD_SAFETY(attribute) __attribute__((attribute))
#else
#define KVFOLD_THREAD_SAFETY(attribute)
#endif
#define KVFOLD_GUARDED_BY(mutex) KVFOLD_THREAD_SAFETY(guarded_by(mutex))
#define KVFOLD_REQUIRES(mutex) KVFOLD_THREAD_SAFETY(requires_capability(mutex))

namespace kvfold {

class KVFOLD_THREAD_SAFETY(capability("mutex")) Mutex {
  public:
    void lock() KVFOLD_THREAD_SAFETY(acquire_capability()) { mutex_.lock(); }
    void unlock() KVFOLD_THREAD_SAFETY(release_capability()) { mutex_.unlock(); }

  private:
    friend class Condition;
    std::mutex mutex_;
};

class KVFOLD_THREAD_SAFETY(scoped_lockable) MutexLock {
  public:
    explicit MutexLock(Mutex& mutex) KVFOLD_THREAD_SAFETY(acquire_capability(mutex)) : mutex_(mutex) {
        mutex_.lock();
    }
    ~MutexLock() KVFOLD_THREAD_SAFETY(release_capability()) { mutex_.unlock(); }
    MutexLock(const MutexLock&) = delete;
    MutexLock& operator=(const MutexLock&) = delete;

  private:
    Mutex& mutex_;
};

// Waits with the mutex held before and after, and not meanwhile. done() is asked with it held.
class Condition {
  public:
    template <class Done> void wait(Mutex& mutex, Done done) KVFOLD_REQUIRES(mutex) {
        std::unique_lock lock(mutex.mutex_, std::adopt_lock);
        condition_.wait(lock, done);
        lock.release();
    }
    template <class Done>
    void wait_for(Mutex& mutex, std::chrono::milliseconds most, Done done) KVFOLD_REQUIRES(mutex) {
        std::unique_lock lock(mutex.mutex_, std::adopt_lock);
        condition_.wait_for(lock, most, done);
        lock.release();
    }
    void notify_all() { condition_.notify_all(); }

  private:
    std::condition_variable condition_;
};

} // namespace kvfold
