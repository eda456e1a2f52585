#include "base/mapped_file.h"

#include "base/file_descriptor.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

namespace kvfold {

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
    const auto failure = [&](const char* action) {
        return fail(ErrorCode::io, "{}: cannot {}: {}", path.string(), action, std::strerror(errno));
    };
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0) return failure("open it for reading");
    struct stat info = {};
    if (::fstat(file.get(), &info) != 0) return failure("look at it");
    if (!S_ISREG(info.st_mode)) return fail(ErrorCode::io, "{}: is no file", path.string());
    const auto size = static_cast<size_t>(info.st_size);
    if (size == 0) return MappedFile({});
    void* const bytes = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (bytes == MAP_FAILED) return failure("map it into memory");
    return MappedFile({static_cast<const uint8_t*>(bytes), size});
}

MappedFile::~MappedFile() {
    if (!bytes_.empty()) ::munmap(const_cast<uint8_t*>(bytes_.data()), bytes_.size());
}

} // namespace kvfold
