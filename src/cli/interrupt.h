// Ctrl-C: a flag that long work looks at, so that it ends between two steps and leaves nothing half-written.
#pragma once

namespace kvfold::cli {

void catch_interrupts();
bool interrupted();
void forget_interrupt();

// For llama_context_params::abort_callback.
bool stop_on_interrupt(void*);

} // namespace kvfold::cli
