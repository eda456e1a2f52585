// The control channel: one JSON object a line, from whoever started the program (kvfold serve), and one back.
#pragma once

#include "base/file_descriptor.h"
#include "preload/registry.h"

namespace kvfold::preload {

// The answer to a request: {"op":"state"}, {"op":"compact",...} and so on, as src/admin/control.h lists them.
// Errors are {"error":{"code":HTTP status,"message":...}}. Never throws.
Json answer(Registry& registry, const Json& request);

// The policy with the fields that the request names. Fails with invalid_argument.
Result<Policy> changed(Policy policy, const Json& request);

// Connects to the socket that the settings name, twice: the pulse is for what is answered at once, the other
// for what may wait for a context. Says which process this is and serves both. Without a connection (false)
// folding goes on, with a line in the log.
bool connect_control(Registry& registry);

// Serves the channel in a thread of its own until the other side closes it, and closes the socket then.
void serve_control(Registry& registry, FileDescriptor socket);

} // namespace kvfold::preload
