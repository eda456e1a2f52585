// Whole files, read and written safely. Errors name the file and the operating system's reason.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

namespace kvfold {

Result<std::vector<uint8_t>> read_file(const std::filesystem::path& path);

// Whether write_file could write there now; of what it would refuse, only lack of space is not seen. For
// those who have long work to do before they write. Refused: folders, devices and pipes, files that are
// read-only (for root too, who could replace them), and folders that are missing or may not be written into.
Status check_can_write(const std::filesystem::path& path);

// Atomic: writes a temporary file beside `path`, syncs it, renames it over `path`. On any failure
// (disk full, no permission) the temporary file is removed and an existing file stays as it was.
Status write_file(const std::filesystem::path& path, std::span<const uint8_t> bytes);
Status write_file(const std::filesystem::path& path, std::string_view text);

// The same for what is not in memory as a whole: `write` gives the bytes to its argument, piece by piece, and
// ends early when that answers false.
using WritePiece = std::function<bool(std::span<const uint8_t> piece)>;
Status write_file(const std::filesystem::path& path, const std::function<void(const WritePiece&)>& write);

} // namespace kvfold
