// Every path of the admin server: one table, one function that checks and dispatches.
#pragma once

#include "admin/guard.h"
#include "admin/job.h"

#include <atomic>

namespace kvfold::admin {

class Routes {
  public:
    Routes(const AdminOptions& options, Control& control) : guard_(options), control_(control) {}

    // REQUIRES: this outlives the server.
    void install(httplib::Server& server);

    // Ends the requests that wait for a compaction, now and from now on.
    void stop() { stop_.raise(); }

  private:
    using Request = httplib::Request;
    using Response = httplib::Response;
    struct Route {
        std::string_view method, path;
        bool is_public; // needs no token
        void (Routes::*answer)(const Request&, Response&);
    };
    static const Route kRoutes[];

    void dispatch(const Request& request, Response& response);
    void page(const Request& request, Response& response);
    void health(const Request& request, Response& response);
    void processes(const Request& request, Response& response);
    void state(const Request& request, Response& response);
    void sequences(const Request& request, Response& response);
    void metrics(const Request& request, Response& response);
    void methods(const Request& request, Response& response);
    void policy(const Request& request, Response& response);
    void set_policy(const Request& request, Response& response);
    void compact_slot(const Request& request, Response& response);
    void unfold_slot(const Request& request, Response& response);

    Reply ask(const Request& request, const char* op); // of the process that the request names

    Guard guard_;
    Control& control_;
    StopSignal stop_;
    std::atomic<int> waiting_ = 0;
};

// How many requests may wait for a compaction; the rest of the threads answer everything else.
constexpr int kMostWaiting = 8;

} // namespace kvfold::admin
