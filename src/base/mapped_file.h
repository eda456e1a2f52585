// A file's bytes where the system keeps them, read when they are looked at.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <filesystem>
#include <span>
#include <utility>

namespace kvfold {

// Private and read-only. Whoever makes a mapped file shorter ends the processes that look at what is gone:
// kvfold replaces files and never writes into them (base/file.h).
class MappedFile {
  public:
    // Errors name the file and the operating system's reason.
    static Result<MappedFile> open(const std::filesystem::path& path);
    MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
    MappedFile& operator=(MappedFile&&) = delete;
    ~MappedFile();

    std::span<const uint8_t> bytes() const { return bytes_; }

  private:
    explicit MappedFile(std::span<const uint8_t> bytes) : bytes_(bytes) {}
    std::span<const uint8_t> bytes_;
};

} // namespace kvfold
