#include "preload/log.h"

#include "base/format.h"

#include <atomic>
#include <string>
#include <unistd.h>

namespace kvfold::preload {

namespace {
std::atomic<LogLevel> g_level{LogLevel::info};
}

void set_log_level(LogLevel level) { g_level = level; }

void write_log(LogLevel level, std::string_view line) {
    if (level > g_level.load()) return;
    std::string text = kvfold::format("kvfold: {}\n", line);
    // One write, so that lines of several threads and of the program stay whole. A full pipe loses the line.
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
}

} // namespace kvfold::preload
