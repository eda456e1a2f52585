// The admin HTTP server: the dashboard, compaction on request, the policy, metrics. It owns its threads and
// knows the cache only through Control.
#pragma once

#include "admin/control.h"
#include "admin/options.h"

#include <memory>

namespace kvfold::admin {

class AdminServer {
  public:
    // Listens when it returns. Fails when the port is in use, the host is not an address of this machine or
    // is reachable from others and there is no token. `control` must outlive the server.
    // Has the process ignore SIGPIPE, as cpp-httplib does.
    static Result<std::unique_ptr<AdminServer>> start(const AdminOptions& options, Control& control);

    ~AdminServer(); // stops listening, ends the requests that wait, joins
    AdminServer(const AdminServer&) = delete;
    AdminServer& operator=(const AdminServer&) = delete;

    int port() const; // the one that the system chose, when the options said 0

  private:
    struct Impl;
    explicit AdminServer(std::unique_ptr<Impl> impl);

    std::unique_ptr<Impl> impl_;
};

} // namespace kvfold::admin
