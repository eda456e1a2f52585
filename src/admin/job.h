// A compaction takes seconds and its HTTP request stays open for as long: this is the waiting.
#pragma once

#include "admin/control.h"
#include "admin/peer.h"

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace kvfold::admin {

struct Reply {
    int status;
    Json body;
};

Reply error_reply(int status, const std::string& message);

// What the other side answered: an error under its own HTTP status, everything else as it is.
Reply reply_of(const Result<Json>& answer);

// Raised once, when the server stops; wakes all who sleep.
class StopSignal {
  public:
    void raise();
    // False when it was raised before the time was over.
    bool sleep(std::chrono::milliseconds time);

  private:
    std::mutex mutex_;
    std::condition_variable raised_changed_;
    bool raised_ = false;
};

// Starts the compaction and waits for its end, for the client's or for the server's. The job itself goes on.
Reply compact(Control& control, const Json& request, const Peer& peer, StopSignal& stop);

} // namespace kvfold::admin
