#include "base/free_memory.h"

#include <algorithm>
#include <fstream>
#include <string>

namespace kvfold {

namespace {

std::optional<size_t> available(const std::filesystem::path& meminfo) {
    std::ifstream file(meminfo);
    std::string name, unit;
    for (size_t kibibytes = 0; file >> name >> kibibytes; std::getline(file, unit))
        if (name == "MemAvailable:") return 1024 * kibibytes;
    return std::nullopt;
}

// "max" where there is no limit.
std::optional<size_t> number_in(const std::filesystem::path& path) {
    std::ifstream file(path);
    size_t number = 0;
    return file >> number ? std::optional(number) : std::nullopt;
}

// The line of version 2 is "0::/the/group".
std::filesystem::path group_of(const std::filesystem::path& root) {
    std::ifstream file(root / "proc/self/cgroup");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("0::/")) return root / "sys/fs/cgroup" / line.substr(4);
    return root / "sys/fs/cgroup";
}

} // namespace

std::optional<size_t> free_memory(const std::filesystem::path& root) {
    auto free = available(root / "proc/meminfo");
    const std::filesystem::path all = root / "sys/fs/cgroup";
    for (std::filesystem::path group = group_of(root); free;
         group = group.parent_path()) { // each is bounded by its parent
        const auto most = number_in(group / "memory.max"), taken = number_in(group / "memory.current");
        if (most && taken) free = std::min(*free, *most - std::min(*most, *taken));
        if (group == all || !group.has_relative_path()) break;
    }
    return free;
}

size_t default_archive_bytes() {
    constexpr size_t kWhereNotKnown = size_t{1} << 30;
    const std::optional<size_t> free = free_memory();
    return free ? *free / 4 : kWhereNotKnown;
}

} // namespace kvfold
