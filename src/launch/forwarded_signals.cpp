#include "launch/forwarded_signals.h"

#include <array>
#include <cerrno>
#include <ctime>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

namespace kvfold::launch {

namespace {

constexpr std::array kEnding = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
constexpr std::array kForwarded = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT};

struct Arrived {
    int signal = 0;
    bool from_terminal = false; // then the kernel has sent it to the whole process group, the child included
};

Arrived take(const sigset_t& set) {
#ifdef __APPLE__ // untested; no sigwaitinfo, so who sent it can only be guessed
    int signal = 0;
    if (sigwait(&set, &signal) != 0) return {};
    const bool key = signal == SIGINT || signal == SIGQUIT || signal == SIGTSTP;
    return {signal, key && tcgetpgrp(STDIN_FILENO) == getpgrp()};
#else
    siginfo_t info;
    const int signal = sigwaitinfo(&set, &info);
    return signal < 0 ? Arrived() : Arrived{signal, info.si_code == SI_KERNEL};
#endif
}

// As SIGTSTP does it by default: in a process group that no shell could continue the kernel ignores it.
void stop_this_process() {
    sigset_t stop, before;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTSTP);
    raise(SIGTSTP);
    pthread_sigmask(SIG_UNBLOCK, &stop, &before); // stops here, until SIGCONT
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

} // namespace

ForwardedSignals::ForwardedSignals() {
    sigemptyset(&waited_);
    for (const int signal : kForwarded)
        sigaddset(&waited_, signal);
    sigaddset(&waited_, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &waited_, &mask_before_);
    // By default these two are ignored, and a system may throw ignored signals away although they are
    // blocked; with SIGCHLD ignored by whoever started kvfold, the kernel would throw the exit code away.
    struct sigaction nothing = {};
    nothing.sa_handler = [](int) {};
    sigaction(SIGCHLD, &nothing, &child_before_);
    sigaction(SIGCONT, &nothing, &continue_before_);
}

ForwardedSignals::~ForwardedSignals() {
    int unused = 0;
    sigset_t pending;
    while (sigpending(&pending) == 0) {
        sigset_t mine;
        sigemptyset(&mine);
        int count = 0;
        for (const int signal : kForwarded)
            if (sigismember(&pending, signal) == 1) sigaddset(&mine, signal), ++count;
        if (count == 0 || sigwait(&mine, &unused) != 0) break;
    }
    sigaction(SIGCHLD, &child_before_, nullptr);
    sigaction(SIGCONT, &continue_before_, nullptr);
    pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
}

bool ForwardedSignals::asked_to_end() const {
    sigset_t pending;
    if (sigpending(&pending) != 0) return false;
    for (const int signal : kEnding)
        if (sigismember(&pending, signal) == 1) return true;
    return false;
}

int ForwardedSignals::wait_and_forward(pid_t child, const std::function<void(int)>& heard) {
    for (;;) {
        int status = 0;
        const pid_t changed = waitpid(child, &status, WNOHANG | WUNTRACED);
        if (changed < 0 && errno != EINTR) return -1;
        if (changed == child && (WIFEXITED(status) || WIFSIGNALED(status))) return status;
        if (changed == child && WIFSTOPPED(status)) {
            stop_this_process();
            continue;
        }
        // The child is not reaped, so its id cannot belong to another process yet. A SIGCHLD that comes from
        // here on waits until it is taken: nothing can be missed between the two calls.
        const Arrived arrived = take(waited_);
        if (arrived.signal == 0 || arrived.signal == SIGCHLD) continue;
        if (!arrived.from_terminal) kill(child, arrived.signal);
        heard(arrived.signal);
    }
}

} // namespace kvfold::launch
