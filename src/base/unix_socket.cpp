#include "base/unix_socket.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/un.h>

namespace kvfold {

namespace {

Result<sockaddr_un> address_of(const std::string& path) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() > kLongestSocketPath)
        return fail(ErrorCode::invalid_argument, "socket '{}': the path of a socket has 1 to {} bytes", path,
                    kLongestSocketPath);
    path.copy(address.sun_path, path.size());
    return address;
}

// SOCK_CLOEXEC where there is one: the program may start others at any time.
FileDescriptor new_socket() {
#ifdef SOCK_CLOEXEC
    return FileDescriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
#else
    FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM, 0));
    ::fcntl(socket.get(), F_SETFD, FD_CLOEXEC);
    return socket;
#endif
}

void set_blocking(int socket, bool blocking) {
    const int flags = ::fcntl(socket, F_GETFL);
    ::fcntl(socket, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

bool is_own(int socket) {
#ifdef SO_PEERCRED
    ucred peer = {};
    socklen_t size = sizeof(peer);
    return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == ::geteuid();
#else // untested
    uid_t user;
    gid_t group;
    return ::getpeereid(socket, &user, &group) == 0 && user == ::geteuid();
#endif
}

} // namespace

void quiet([[maybe_unused]] int socket) {
#ifdef SO_NOSIGPIPE
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_NOSIGPIPE, &yes, sizeof(yes));
#endif
}

Result<FileDescriptor> listen_at(const std::string& path) {
    KVFOLD_TRY(const sockaddr_un address, address_of(path));
    FileDescriptor socket = new_socket();
    const auto* const where = reinterpret_cast<const sockaddr*>(&address);
    if (socket.get() < 0 || ::bind(socket.get(), where, sizeof(address)) != 0 ||
        ::listen(socket.get(), SOMAXCONN) != 0)
        return fail(ErrorCode::io, "socket {}: {}", path, std::strerror(errno));
    set_blocking(socket.get(), false);
    return socket;
}

Result<FileDescriptor> connect_to(const std::string& path) {
    KVFOLD_TRY(const sockaddr_un address, address_of(path));
    FileDescriptor socket = new_socket();
    set_blocking(socket.get(), false); // else it would wait where too many wait
    if (socket.get() < 0 ||
        ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
        return fail(ErrorCode::io, "socket {}: {}", path, std::strerror(errno));
    if (!is_own(socket.get())) return fail(ErrorCode::io, "socket {}: another user listens there", path);
    set_blocking(socket.get(), true);
    quiet(socket.get());
    return socket;
}

std::optional<FileDescriptor> accept_own(const FileDescriptor& listener) {
    for (;;) {
#ifdef SOCK_CLOEXEC
        FileDescriptor socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
#else
        FileDescriptor socket(::accept(listener.get(), nullptr, nullptr));
        ::fcntl(socket.get(), F_SETFD, FD_CLOEXEC);
#endif
        if (socket.get() < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
        if (socket.get() < 0) return std::nullopt;
        quiet(socket.get());
        if (is_own(socket.get())) return socket;
    }
}

} // namespace kvfold
