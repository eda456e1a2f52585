// The report's page, whole but for the document: {{document}} stands where it goes.
#pragma once

#include <string_view>

namespace kvfold {

std::string_view report_template();

} // namespace kvfold
