// The library's log: lines "kvfold: ..." on standard error, and nothing anywhere else.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace kvfold::preload {

enum class LogLevel : int { off, error, warn, info, debug };

void set_log_level(LogLevel level); // default: info
void write_log(LogLevel level, std::string_view line);

template <class... Args> void log_error(fmt::format_string<Args...> format, Args&&... args) {
    write_log(LogLevel::error, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args> void log_warning(fmt::format_string<Args...> format, Args&&... args) {
    write_log(LogLevel::warn, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args> void log_info(fmt::format_string<Args...> format, Args&&... args) {
    write_log(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args> void log_debug(fmt::format_string<Args...> format, Args&&... args) {
    write_log(LogLevel::debug, fmt::format(format, std::forward<Args>(args)...));
}

} // namespace kvfold::preload
