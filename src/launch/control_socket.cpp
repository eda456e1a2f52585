#include "launch/control_socket.h"

#include "base/unix_socket.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace kvfold::launch {

namespace {

constexpr const char* kTemplate = "kvfold-XXXXXX";
constexpr size_t kLongestFolder = kLongestSocketPath - std::string_view("/control").size();

std::string folder_template() {
    std::error_code error;
    auto folder = std::filesystem::temp_directory_path(error);
    if (!error) folder = std::filesystem::absolute(folder, error); // the program may run elsewhere
    const std::string text = (folder / kTemplate).string();
    return error || text.size() > kLongestFolder ? std::string("/tmp/") + kTemplate : text;
}

} // namespace

Result<std::unique_ptr<ControlSocket>> ControlSocket::open() {
    std::string folder = folder_template();
    if (::mkdtemp(folder.data()) == nullptr) // for this user alone: mode 0700
        return fail(ErrorCode::io,
                    "no folder {} for the control socket: {}; set TMPDIR to one that can be "
                    "written to",
                    folder, std::strerror(errno));
    std::unique_ptr<ControlSocket> socket(new ControlSocket(std::move(folder)));
    KVFOLD_TRY(socket->listener_, listen_at(socket->path_));
    return socket;
}

ControlSocket::~ControlSocket() {
    ::unlink(path_.c_str());
    ::rmdir(folder_.c_str());
}

std::optional<FileDescriptor> ControlSocket::accept() { return accept_own(listener_); }

} // namespace kvfold::launch
