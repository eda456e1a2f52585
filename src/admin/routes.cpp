#include "admin/routes.h"

#include "admin/dashboard.h"
#include "admin/metrics.h"
#include "admin/request_body.h"

#include <algorithm>
#include <optional>

namespace kvfold::admin {
namespace {

constexpr double kLongCall = 1; // second into which a call into llama.cpp is worth a word

// The page runs its own scripts, asks its own server and shows up in no other page's frame.
constexpr const char* kPagePolicy =
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'";

void send(httplib::Response& response, const Reply& reply) {
    response.status = reply.status;
    if (reply.status == 401) response.set_header("WWW-Authenticate", "Bearer");
    response.set_content(to_text(reply.body) + "\n", "application/json");
}

// The fields of the state under their own names; null where the state has none.
Reply part_of(const Reply& state, std::initializer_list<const char*> fields) {
    if (state.status != 200) return state;
    Reply part = {200, Json::object()};
    for (const char* field : fields)
        part.body[field] = state.body.value(field, Json());
    return part;
}

} // namespace

const Routes::Route Routes::kRoutes[] = {
    {"GET", "/", true, &Routes::page},
    {"GET", "/health", true, &Routes::health},
    {"GET", "/processes", false, &Routes::processes},
    {"GET", "/state", false, &Routes::state},
    {"GET", "/sequences", false, &Routes::sequences},
    {"GET", "/metrics", false, &Routes::metrics},
    {"GET", "/methods", false, &Routes::methods},
    {"GET", "/policy", false, &Routes::policy},
    {"POST", "/policy", false, &Routes::set_policy},
    {"POST", "/compact", false, &Routes::compact_slot},
    {"POST", "/unfold", false, &Routes::unfold_slot},
};

void Routes::install(httplib::Server& server) {
    server.set_default_headers({{"Cache-Control", "no-store"},
                                {"X-Content-Type-Options", "nosniff"},
                                {"Referrer-Policy", "no-referrer"}});
    // Everything is dispatched after the body was read: refusing earlier would close the connection on a
    // client that still writes, which then sees a reset instead of the reason.
    const auto handler = [this](const Request& request, Response& response) { dispatch(request, response); };
    server.Get(".*", handler).Post(".*", handler).Put(".*", handler);
    server.Patch(".*", handler).Delete(".*", handler).Options(".*", handler);
    server.set_error_handler([](const Request&, Response& response) {
        if (!response.body.empty()) return; // ours already
        const char* const message =
            response.status == 413 ? "the body is too long" : "the request is not understood";
        send(response, error_reply(response.status, message));
    });
}

void Routes::dispatch(const Request& request, Response& response) {
    const std::string_view method = request.method == "HEAD" ? std::string_view("GET") : request.method;
    const Route* route = nullptr;
    std::string allowed;
    for (const Route& one : kRoutes) {
        if (one.path != request.path) continue;
        allowed.append(allowed.empty() ? "" : ", ").append(one.method);
        if (one.method == method) route = &one;
    }
    if (const auto refusal = guard_.check(request, route && route->is_public))
        return send(response, error_reply(refusal->status, refusal->message));
    if (!route && allowed.empty()) return send(response, error_reply(404, "no such path: " + request.path));
    if (!route) {
        response.set_header("Allow", allowed);
        return send(response, error_reply(405, request.path + " takes " + allowed + " only"));
    }
    try { // JSON of the wrong type throws
        (this->*route->answer)(request, response);
    } catch (const std::exception& error) {
        send(response, error_reply(500, error.what()));
    }
}

void Routes::page(const Request&, Response& response) {
    const std::string_view html = dashboard_page();
    response.set_header("Content-Security-Policy", kPagePolicy);
    response.set_content(html.data(), html.size(), "text/html; charset=utf-8");
}

void Routes::health(const Request&, Response& response) {
    const Reply list = reply_of(control_.ask({{"op", "processes"}}));
    std::optional<double> busy_s; // of the one that is least so
    if (list.status == 200)
        for (const Json& process : list.body.at("processes")) {
            if (!process.value("answers", false)) continue;
            const double so_far = process.value("busy_s", 0.0);
            busy_s = std::min(busy_s.value_or(so_far), so_far);
        }
    if (!busy_s) return send(response, {503, {{"status", "no answer"}}});
    if (*busy_s < kLongCall) return send(response, {200, {{"status", "ok"}}});
    send(response, {200, {{"status", "busy"}, {"busy_s", *busy_s}}});
}

Reply Routes::ask(const Request& request, const char* op) {
    Json question = {{"op", op}};
    if (request.has_param("process")) {
        const Result<int> process = process_of(request.get_param_value("process"));
        if (!process) return error_reply(400, process.error().message);
        question["process"] = *process;
    }
    return reply_of(control_.ask(question));
}

void Routes::processes(const Request&, Response& response) {
    send(response, reply_of(control_.ask({{"op", "processes"}})));
}

void Routes::state(const Request& request, Response& response) { send(response, ask(request, "state")); }

void Routes::sequences(const Request& request, Response& response) {
    send(response, part_of(ask(request, "state"), {"sequences", "context"}));
}

void Routes::policy(const Request& request, Response& response) {
    send(response, part_of(ask(request, "state"), {"policy"}));
}

void Routes::metrics(const Request&, Response& response) {
    const Reply states = reply_of(control_.ask({{"op", "states"}}));
    if (states.status != 200) return send(response, states);
    response.set_content(metrics_text(states.body.at("processes")),
                         "text/plain; version=0.0.4; charset=utf-8");
}

void Routes::methods(const Request& request, Response& response) { send(response, ask(request, "methods")); }

void Routes::set_policy(const Request& request, Response& response) {
    const Result<Json> wanted = policy_request(request.body);
    if (!wanted) return send(response, error_reply(400, wanted.error().message));
    send(response, reply_of(control_.ask(*wanted)));
}

void Routes::compact_slot(const Request& request, Response& response) {
    const Result<Json> wanted = compact_request(request.body);
    if (!wanted) return send(response, error_reply(400, wanted.error().message));
    struct Place {
        std::atomic<int>& taken;
        const bool free = taken.fetch_add(1) < kMostWaiting;
        ~Place() { taken.fetch_sub(1); }
    } const place{waiting_};
    if (!place.free)
        return send(response, error_reply(503, "too many requests wait for a compaction; try again later"));
    send(response, compact(control_, *wanted, Peer(request), stop_));
}

void Routes::unfold_slot(const Request& request, Response& response) {
    const Result<Json> wanted = unfold_request(request.body);
    if (!wanted) return send(response, error_reply(400, wanted.error().message));
    send(response, reply_of(control_.ask(*wanted)));
}

} // namespace kvfold::admin
