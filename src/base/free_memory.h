// How much memory a process may still take.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>

namespace kvfold {

// Bytes that the system could give without swapping, no more than the process's control group allows (version
// 2). Nothing where that is not known: /proc/meminfo is Linux's. root: "/" but for tests.
std::optional<size_t> free_memory(const std::filesystem::path& root = "/");

// For an archive that nobody gives a size: a quarter of that, or 1 GiB where it is not known.
size_t default_archive_bytes();

} // namespace kvfold
