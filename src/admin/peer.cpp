#include "admin/peer.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>
#include <string>

namespace kvfold::admin {
namespace {

constexpr int kHighestSocket = 4096; // a process with more open files than that goes unwatched

struct End {
    std::string address;
    int port = -1;
    bool operator==(const End&) const = default;
};

End end_of(int socket, int (*which)(int, sockaddr*, socklen_t*)) {
    sockaddr_storage storage;
    socklen_t length = sizeof(storage);
    auto* const address = reinterpret_cast<sockaddr*>(&storage);
    if (which(socket, address, &length) != 0) return {};
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getnameinfo(address, length, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return {};
    return {host, std::atoi(port)};
}

} // namespace

Peer::Peer(const httplib::Request& request) {
    const End remote = {request.remote_addr, request.remote_port};
    const End local = {request.local_addr, request.local_port};
    for (int socket = 0; socket < kHighestSocket && socket_ < 0; ++socket)
        if (end_of(socket, getpeername) == remote && end_of(socket, getsockname) == local) socket_ = socket;
}

bool Peer::is_gone() const {
    if (socket_ < 0) return false;
    char byte;
    const ssize_t got = recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

} // namespace kvfold::admin
