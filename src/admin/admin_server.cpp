#include "admin/admin_server.h"

#include "admin/routes.h"

#include <fcntl.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

namespace kvfold::admin {
namespace {

constexpr size_t kLargestBody = 64 * 1024;
constexpr int kThreads = 16;
constexpr time_t kPatience_s = 5; // for a client that writes or reads slowly
static_assert(kThreads > kMostWaiting);

void configure(httplib::Server& server) {
    server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
    server.set_payload_max_length(kLargestBody);
    server.set_read_timeout(kPatience_s);
    server.set_write_timeout(kPatience_s);
    // One request a connection: idle connections would hold threads, and stopping would wait for them.
    server.set_keep_alive_max_count(1);
    // cpp-httplib's default is SO_REUSEPORT, under which two servers share a port and neither notices.
    server.set_socket_options([](socket_t socket) {
        const int yes = 1;
        setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
        fcntl(socket, F_SETFD, FD_CLOEXEC); // the child must not hold the port
    });
}

Status check(const AdminOptions& options) {
    if (options.host.empty()) return fail(ErrorCode::invalid_argument, "the admin server has no host");
    if (options.token.empty() && !is_loopback(options.host))
        return fail(ErrorCode::invalid_argument,
                    "admin host {} can be reached from other machines: give a token, or listen on 127.0.0.1",
                    options.host);
    return {};
}

} // namespace

struct AdminServer::Impl {
    Impl(const AdminOptions& options, Control& control) : routes(options, control) {
        configure(http);
        routes.install(http);
    }

    Routes routes;
    httplib::Server http;
    int port = 0;
    std::atomic<bool> ended = false; // the listener has returned
    std::thread listener;
};

Result<std::unique_ptr<AdminServer>> AdminServer::start(const AdminOptions& options, Control& control) {
    KVFOLD_CHECK(check(options));
    auto impl = std::make_unique<Impl>(options, control);
    errno = 0;
    const int bound = options.port == 0 ? impl->http.bind_to_any_port(options.host)
                      : impl->http.bind_to_port(options.host, options.port) ? options.port
                                                                            : -1;
    if (bound <= 0) {
        const int reason = errno;
        if (reason == EADDRINUSE)
            return fail(ErrorCode::io, "admin port {} on {} is in use; choose another, or 0", options.port,
                        options.host);
        return fail(ErrorCode::io, "cannot listen on admin address {}, port {}: {}", options.host,
                    options.port, reason ? std::strerror(reason) : "no such host");
    }
    impl->port = bound;
    std::unique_ptr<AdminServer> server(new AdminServer(std::move(impl)));
    return server;
}

AdminServer::AdminServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
    impl_->listener = std::thread([impl = impl_.get()] {
        impl->http.listen_after_bind();
        impl->ended = true;
    });
    // stop() does nothing on a server that does not run yet.
    while (!impl_->http.is_running() && !impl_->ended)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

AdminServer::~AdminServer() {
    impl_->routes.stop();
    impl_->http.stop();
    impl_->listener.join();
}

int AdminServer::port() const { return impl_->port; }

} // namespace kvfold::admin
