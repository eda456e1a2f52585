#include "cli/interrupt.h"

#include <csignal>

namespace kvfold::cli {

namespace {

volatile std::sig_atomic_t interrupt_seen = 0;

void note_interrupt(int) { interrupt_seen = 1; }

} // namespace

void catch_interrupts() {
    struct sigaction action = {};
    action.sa_handler = note_interrupt;
    // No SA_RESTART: a chat that waits for a line has to wake up.
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return interrupt_seen != 0; }

void forget_interrupt() { interrupt_seen = 0; }

bool stop_on_interrupt(void*) { return interrupted(); }

} // namespace kvfold::cli
