// The bodies of POST requests, checked field by field before anyone else sees them.
#pragma once

#include "admin/control.h"

#include <string_view>

namespace kvfold::admin {

// {"id_slot":0,"method":"self_study","ratio":4.0}, the last two optional, as a "compact" request.
Result<Json> compact_request(std::string_view body);

// One or more of ratio, method, high_water, keep_first, keep_last, automatic, as a "policy" request.
Result<Json> policy_request(std::string_view body);

} // namespace kvfold::admin
