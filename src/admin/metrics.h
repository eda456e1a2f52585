// The state as Prometheus text, exposition format 0.0.4.
#pragma once

#include "admin/control.h"

#include <string>

namespace kvfold::admin {

std::string metrics_text(const Json& state);

} // namespace kvfold::admin
