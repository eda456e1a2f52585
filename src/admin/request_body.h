// What requests say, in their bodies or behind the ?, checked field by field before anyone else sees them.
#pragma once

#include "admin/control.h"

#include <string_view>

namespace kvfold::admin {

// {"id_slot":0,"method":"self_study","ratio":4.0,"process":123}, the last three optional, as a "compact"
// request.
Result<Json> compact_request(std::string_view body);

// {"id_slot":0,"process":123}, the last optional, as an "unfold" request.
Result<Json> unfold_request(std::string_view body);

// One or more of ratio, method, high_water, keep_first, keep_last, automatic, as a "policy" request;
// "process" may come with them.
Result<Json> policy_request(std::string_view body);

// The number in ?process=123.
Result<int> process_of(std::string_view text);

} // namespace kvfold::admin
