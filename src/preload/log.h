// The library's log: lines "kvfold: ..." on standard error, and nothing anywhere else.
#pragma once

#include "base/format.h"

#include <string_view>

namespace kvfold::preload {

enum class LogLevel : int { off, error, warn, info, debug };

void set_log_level(LogLevel level); // default: info
void write_log(LogLevel level, std::string_view line);

template <class... Args> void log_error(fmt::format_string<Args...> format, Args&&... args) {
    write_log(LogLevel::error, format_arguments(format, fmt::make_format_args(args...)));
}
template <class... Args> void log_warning(fmt::format_string<Args...> format, Args&&... args) {
    write_log(LogLevel::warn, format_arguments(format, fmt::make_format_args(args...)));
}
template <class... Args> void log_info(fmt::format_string<Args...> format, Args&&... args) {
    write_log(LogLevel::info, format_arguments(format, fmt::make_format_args(args...)));
}
template <class... Args> void log_debug(fmt::format_string<Args...> format, Args&&... args) {
    write_log(LogLevel::debug, format_arguments(format, fmt::make_format_args(args...)));
}

} // namespace kvfold::preload
