#include "measure/peak_memory.h"

#include <fstream>
#include <string>
#include <string_view>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace kvfold {

namespace {

// A line such as "VmHWM:   123456 kB" of /proc/self/status.
std::optional<size_t> status_bytes(std::string_view name) {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
        size_t kilobytes = 0;
        if (word == name && status >> kilobytes) return kilobytes * 1024;
    }
    return {};
}

// Sets VmHWM back to what is resident now.
bool reset_peak() {
    std::ofstream file("/proc/self/clear_refs");
    file << 5 << std::flush;
    return file.good();
}

} // namespace

PeakMemory::PeakMemory() {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
    if (reset_peak()) before_ = status_bytes("VmRSS:");
}

std::optional<size_t> PeakMemory::extra_bytes() const {
    const std::optional<size_t> peak = before_ ? status_bytes("VmHWM:") : std::nullopt;
    if (!peak) return {};
    return *peak > *before_ ? *peak - *before_ : 0;
}

} // namespace kvfold
