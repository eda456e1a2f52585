// The signals that kvfold passes on to the program it has started.
#pragma once

#include <csignal>
#include <functional>
#include <sys/types.h>

namespace kvfold::launch {

// Blocks them in this thread and in those it starts, so that none is lost or runs a handler between two
// steps: they wait until wait_and_forward takes them one by one. Make one before the first thread and before
// the program starts.
class ForwardedSignals {
  public:
    ForwardedSignals();
    ~ForwardedSignals(); // discards those that still wait, then restores mask and handlers
    ForwardedSignals(const ForwardedSignals&) = delete;
    ForwardedSignals& operator=(const ForwardedSignals&) = delete;

    // One that asks to end has come already.
    bool asked_to_end() const;

    // Returns the status of waitpid once `child` has ended; -1 when it cannot be waited for (errno says why).
    // While the child is stopped (Ctrl-Z) this process is stopped too. heard: called with each signal that
    // reaches the child, once it is sent.
    int wait_and_forward(pid_t child, const std::function<void(int)>& heard);

  private:
    sigset_t waited_, mask_before_;
    struct sigaction child_before_, continue_before_;
};

} // namespace kvfold::launch
