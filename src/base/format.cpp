#define FMT_HEADER_ONLY // here alone
#include "base/format.h"

#include <fmt/format.h>

namespace kvfold {

std::string format_arguments(fmt::string_view format, fmt::format_args arguments) {
    return fmt::vformat(format, arguments);
}

void print_arguments(std::FILE* stream, fmt::string_view format, fmt::format_args arguments) {
    fmt::vprint(stream, format, arguments);
}

} // namespace kvfold
