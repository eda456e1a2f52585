// kvfold's end of the socket to the preload library: a line of JSON out, a line of JSON back.
#pragma once

#include "admin/control.h"
#include "base/file_descriptor.h"
#include "base/result.h"

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace kvfold::launch {

inline constexpr size_t kLongestLine = size_t{16} << 20;

// Each request carries an "id" and its answer carries it back, so that an answer that came too late is not
// taken for the next request's. Threads may ask at once; they take turns.
class ControlChannel : public admin::Control {
  public:
    static constexpr std::chrono::milliseconds kPatience{5000};

    explicit ControlChannel(FileDescriptor socket, std::chrono::milliseconds patience = kPatience)
        : socket_(std::move(socket)), patience_(patience) {}

    // REQUIRES: an object without "id". The answer comes without it. Fails with `llama` when there is no
    // answer in time (waiting for one's turn included), with `io` when the program has ended.
    Result<Json> ask(const Json& request) override { return ask(request, patience_); }
    Result<Json> ask(const Json& request, std::chrono::milliseconds patience);

    // The program has closed the channel or broken it. False while somebody asks, who will see.
    bool has_ended();

  private:
    using Deadline = std::chrono::steady_clock::time_point;

    Result<Json> exchange(const Json& request, Deadline deadline);
    Status send_unsent(Deadline deadline);
    Result<std::string> receive_line(Deadline deadline);
    Status wait_for(short events, Deadline deadline) const;

    // One exchange at a time. Not a timed_mutex: the thread sanitizers of today do not know its timed lock.
    std::mutex mutex_; // guards busy_; whoever has set that owns all below
    std::condition_variable free_;
    bool busy_ = false;

    FileDescriptor socket_;
    const std::chrono::milliseconds patience_;
    uint64_t last_id_ = 0;
    std::string unsent_;   // a request that the program was too slow to take; its rest must go out first
    size_t sent_ = 0;      // bytes of it that are gone
    std::string received_; // what came after the last whole line
};

} // namespace kvfold::launch
