// Whole files, read and written safely. Errors name the file and the operating system's reason.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace kvfold {

Result<std::vector<uint8_t>> read_file(const std::filesystem::path& path);

// Atomic: writes a temporary file beside `path`, syncs it, renames it over `path`. On any failure
// (disk full, no permission) the temporary file is removed and an existing file stays as it was.
Status write_file(const std::filesystem::path& path, std::span<const uint8_t> bytes);
Status write_file(const std::filesystem::path& path, std::string_view text);

} // namespace kvfold
