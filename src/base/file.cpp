#include "base/file.h"

#include "base/file_descriptor.h"
#include "base/format.h"

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
           kvfold::format(".{}.{}-{}.part", target.filename().string(), ::getpid(), counter.fetch_add(1));
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

bool may_write(const fs::path& path) { return ::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) == 0; }

// The mode of the file to be replaced, or 0 for a new one.
Result<mode_t> mode_for(const fs::path& target) {
    struct stat info = {};
    if (::stat(target.c_str(), &info) != 0) {
        if (errno == ENOENT) return static_cast<mode_t>(0);
        return io_failure(target, "look at it", errno);
    }
    if (S_ISDIR(info.st_mode)) return fail(ErrorCode::io, "{}: is a folder; name a file", target.string());
    // Renaming over a device or a pipe would destroy or miss it.
    if (!S_ISREG(info.st_mode))
        return fail(ErrorCode::io, "{}: is a device or a pipe; name a file", target.string());
    // A rename asks for the folder's permissions only, but who made a file read-only wants to keep it.
    if ((info.st_mode & (S_IWUSR | S_IWGRP | S_IWOTH)) == 0 || !may_write(target))
        return fail(ErrorCode::io, "{}: may not be written; name another file or change its permissions",
                    target.string());
    return info.st_mode & 07777;
}

struct Target {
    fs::path file, folder;
    mode_t old_mode; // 0 = there is no file yet
};

Result<Target> target_of(const fs::path& path) {
    // A link stays a link: the file it leads to is replaced.
    std::error_code ignored;
    fs::path file = fs::is_symlink(path, ignored) ? fs::weakly_canonical(path, ignored) : path;
    if (file.filename().empty()) return fail(ErrorCode::io, "'{}' does not name a file", path.string());
    fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
    if (!fs::is_directory(folder, ignored))
        return fail(ErrorCode::io, "{}: there is no folder {}; create it first", path.string(),
                    folder.string());
    KVFOLD_TRY(const mode_t old_mode, mode_for(file));
    if (!may_write(folder))
        return fail(ErrorCode::io, "{}: no permission to write into {}", path.string(), folder.string());
    return Target{std::move(file), std::move(folder), old_mode};
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

Status check_can_write(const fs::path& path) {
    KVFOLD_TRY([[maybe_unused]] const Target target, target_of(path));
    return {};
}

Status write_file(const fs::path& path, std::span<const uint8_t> bytes) {
    return write_file(path, [&](const WritePiece& piece) { piece(bytes); });
}

Status write_file(const fs::path& path, const std::function<void(const WritePiece&)>& write) {
    KVFOLD_TRY(const Target known, target_of(path));
    const auto& [target, folder, old_mode] = known;
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

    int error = 0; // the first
    write([&](std::span<const uint8_t> piece) {
        if (error == 0 && !write_all(file.get(), piece)) error = errno;
        return error == 0;
    });
    if (error != 0) return io_failure(target, "write it", error);
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
