// For how long a call of the program's has been running, which can be asked without waiting for it.
#pragma once

#include <atomic>
#include <chrono>

namespace kvfold::preload {

class Calls {
    using Clock = std::chrono::steady_clock;

  public:
    // A call, from here to the end of the scope. Where one runs already it is the same, or waits for it.
    class Running {
      public:
        explicit Running(Calls& calls) : calls_(calls) {
            Clock::rep none = 0;
            is_first_ = calls_.since_.compare_exchange_strong(none, Clock::now().time_since_epoch().count());
        }
        ~Running() {
            if (is_first_) calls_.since_ = 0;
        }
        Running(const Running&) = delete;
        Running& operator=(const Running&) = delete;

      private:
        Calls& calls_;
        bool is_first_ = false;
    };

    double seconds() const { // 0: none runs
        const Clock::rep since = since_;
        if (since == 0) return 0;
        return std::chrono::duration<double>(Clock::now().time_since_epoch() - Clock::duration(since))
            .count();
    }

  private:
    std::atomic<Clock::rep> since_ = 0;
};

} // namespace kvfold::preload
