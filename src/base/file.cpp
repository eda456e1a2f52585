#include "base/file.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

namespace kvfold {
namespace {

namespace fs = std::filesystem;

tl::unexpected<Error> io_failure(const fs::path& path, const char* action, int error) {
    return fail(ErrorCode::io, "{}: cannot {}: {}", path.string(), action, std::strerror(error));
}

class FileDescriptor {
  public:
    explicit FileDescriptor(int fd) : fd_(fd) {}
    FileDescriptor(const FileDescriptor&) = delete;
    FileDescriptor& operator=(const FileDescriptor&) = delete;
    ~FileDescriptor() { close(); }

    int get() const { return fd_; }
    int close() {
        const int result = fd_ >= 0 ? ::close(fd_) : 0;
        fd_ = -1;
        return result;
    }

  private:
    int fd_;
};

// Removes a file when it goes out of scope, unless it was kept.
class TemporaryFile {
  public:
    explicit TemporaryFile(fs::path path) : path_(std::move(path)) {}
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;
    ~TemporaryFile() {
        if (!path_.empty()) ::unlink(path_.c_str());
    }

    const fs::path& path() const { return path_; }
    void keep() { path_.clear(); }

  private:
    fs::path path_;
};

// A name nobody else uses: the process and a counter tell our own writers apart, O_EXCL the rest.
fs::path temporary_name(const fs::path& target) {
    static std::atomic<uint32_t> counter = 0;
    return target.parent_path() /
           fmt::format(".{}.{}-{}.part", target.filename().string(), ::getpid(), counter.fetch_add(1));
}

bool write_all(int fd, std::span<const uint8_t> bytes) {
    while (!bytes.empty()) {
        const ssize_t written = ::write(fd, bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        bytes = bytes.subspan(static_cast<size_t>(written));
    }
    return true;
}

// The rename is durable only once the folder is; some file systems cannot sync folders, which is no failure.
bool sync_folder(int fd) { return ::fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP; }

// The mode of the file to be replaced, or that of a new one.
Result<mode_t> mode_for(const fs::path& target) {
    struct stat info = {};
    if (::stat(target.c_str(), &info) == 0) {
        // Renaming over a device or a folder would destroy or miss it.
        if (!S_ISREG(info.st_mode))
            return io_failure(target, "replace it", S_ISDIR(info.st_mode) ? EISDIR : ENOTSUP);
        return info.st_mode & 07777;
    }
    if (errno != ENOENT) return io_failure(target, "look at it", errno);
    return static_cast<mode_t>(0);
}

} // namespace

Result<std::vector<uint8_t>> read_file(const fs::path& path) {
    FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0) return io_failure(path, "open it for reading", errno);
    struct stat info = {};
    if (::fstat(file.get(), &info) != 0) return io_failure(path, "look at it", errno);

    // The size is a guess only (pipes have none): read until the end.
    std::vector<uint8_t> bytes(static_cast<size_t>(std::max<off_t>(info.st_size, 0)) + 1);
    size_t used = 0;
    while (true) {
        if (used == bytes.size()) bytes.resize(bytes.size() * 2);
        const ssize_t got = ::read(file.get(), bytes.data() + used, bytes.size() - used);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return io_failure(path, "read it", errno);
        if (got == 0) break;
        used += static_cast<size_t>(got);
    }
    bytes.resize(used);
    return bytes;
}

Status write_file(const fs::path& path, std::span<const uint8_t> bytes) {
    // A link stays a link: the file it leads to is replaced.
    std::error_code ignored;
    const fs::path target = fs::is_symlink(path, ignored) ? fs::weakly_canonical(path, ignored) : path;
    if (target.filename().empty()) return fail(ErrorCode::io, "'{}' does not name a file", path.string());
    KVFOLD_TRY(const mode_t old_mode, mode_for(target));

    const fs::path folder = target.has_parent_path() ? target.parent_path() : fs::path(".");
    FileDescriptor folder_fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (folder_fd.get() < 0) return io_failure(target, "open its folder", errno);

    fs::path name;
    int fd = -1;
    do {
        name = temporary_name(target);
        fd = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    } while (fd < 0 && errno == EEXIST);
    if (fd < 0) return io_failure(target, "create a temporary file beside it", errno);
    TemporaryFile temporary(name);
    FileDescriptor file(fd);

    if (!write_all(file.get(), bytes)) return io_failure(target, "write it", errno);
    if (old_mode != 0 && ::fchmod(file.get(), old_mode) != 0)
        return io_failure(target, "keep its permissions", errno);
    if (::fsync(file.get()) != 0) return io_failure(target, "sync it to disk", errno);
    if (file.close() != 0) return io_failure(target, "close it", errno);
    if (::rename(temporary.path().c_str(), target.c_str()) != 0)
        return io_failure(target, "replace it", errno);
    temporary.keep();
    if (!sync_folder(folder_fd.get())) return io_failure(target, "sync its folder to disk", errno);
    return {};
}

Status write_file(const fs::path& path, std::string_view text) {
    return write_file(path, std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

} // namespace kvfold
