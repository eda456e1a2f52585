// The control channel: one JSON object a line, from whoever started the program (kvfold serve), and one back.
#pragma once

#include "preload/registry.h"

namespace kvfold::preload {

// The answer to a request: {"op":"state"}, {"op":"compact",...} and so on, as src/admin/control.h lists them.
// Errors are {"error":{"code":HTTP status,"message":...}}. Never throws.
Json answer(Registry& registry, const Json& request);

// The policy with the fields that the request names. Fails with invalid_argument.
Result<Policy> changed(Policy policy, const Json& request);

// Serves the channel in a thread of its own until the other side closes it, and closes `fd` then.
void serve_control(Registry& registry, int fd);

} // namespace kvfold::preload
