// The page that GET / answers, whole: style and scripts are in it, nothing is loaded from elsewhere.
#pragma once

#include <string_view>

namespace kvfold::admin {

std::string_view dashboard_page();

} // namespace kvfold::admin
