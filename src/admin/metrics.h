// What all processes hold as Prometheus text, exposition format 0.0.4.
#pragma once

#include "admin/control.h"

#include <string>

namespace kvfold::admin {

// processes: [{"pid":123,"file":"..","model":"..","state":{..}}, ..]. One without a state did not answer: it
// is down, and nothing else is said of it.
std::string metrics_text(const Json& processes);

} // namespace kvfold::admin
