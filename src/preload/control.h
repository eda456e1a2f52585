// The control channel: one JSON object a line, from whoever started the program (kvfold serve), and one back.
#pragma once

#include "preload/registry.h"

namespace kvfold::preload {

// The answer to a request: {"op":"state"}, {"op":"compact",...}, {"op":"job",...} or {"op":"policy",...}, as
// src/admin/control.h lists them. Errors are {"error":{"code":HTTP status,"message":...}}. Never throws.
Json answer(Registry& registry, const Json& request);

// Serves the channel in a thread of its own until the other side closes it.
void serve_control(Registry& registry, int fd);

} // namespace kvfold::preload
