#include "preload/control.h"

#include "base/limits.h"
#include "base/unix_socket.h"
#include "fit/figures_json.h"
#include "preload/log.h"
#include "preload/real.h"

#include <cerrno>
#include <cmath>
#include <csignal>
#include <thread>

namespace kvfold::preload {

namespace {

enum Http { kBadRequest = 400, kNotFound = 404, kConflict = 409, kFailed = 500, kNoContext = 503 };

Json error_of(int code, std::string_view message) {
    return {{"error", {{"code", code}, {"message", message}}}};
}

Json error_of(const Error& error) {
    switch (error.code) {
    case ErrorCode::invalid_argument:
        return error_of(kBadRequest, error.message);
    case ErrorCode::not_found:
        return error_of(kNotFound, error.message);
    case ErrorCode::busy:
    case ErrorCode::cancelled:
        return error_of(kConflict, error.message);
    default:
        return error_of(kFailed, error.message);
    }
}

// keep_last as it works, the default resolved.
Json policy_json(const Policy& policy, size_t cells) {
    return {{"automatic", policy.automatic},
            {"ratio", policy.ratio},
            {"method", policy.method->name},
            {"solve_on", kSolveOnNames[static_cast<size_t>(policy.solve_on)]},
            {"high_water", policy.high_water},
            {"keep_first", policy.keep_first},
            {"keep_last", newest_kept(policy, cells)}};
}

Json state(Registry& registry) {
    const auto managed = registry.managed();
    Json whole = registry.state();
    whole["context"] = registry.describe();
    whole["policy"] =
        managed ? policy_json(managed->policy(), managed->cells_of_a_sequence()) : policy_json({}, 0);
    return whole;
}

// The method that the request names, else the policy's.
Result<const Method*> method_of(const Json& request, const Policy& policy) {
    if (!request.contains("method")) return policy.method;
    return find_method(request.at("method").get<std::string>());
}

Json compact(ManagedContext& managed, const Json& request) {
    const auto method = method_of(request, managed.policy());
    if (!method) return error_of(method.error());
    const double ratio = request.value("ratio", managed.policy().ratio);
    if (const Status status = check(limits::ratio, ratio); !status) return error_of(status.error());
    const auto job = managed.compact(request.at("id_slot").get<llama_seq_id>(), *method, ratio);
    if (!job) return error_of(job.error());
    return {{"job", *job}};
}

Json unfold(ManagedContext& managed, const Json& request) {
    const auto cells = managed.unfold(request.at("id_slot").get<llama_seq_id>());
    if (!cells) return error_of(cells.error());
    return {{"success", true}, {"cells", *cells}};
}

Json job(ManagedContext& managed, const Json& request) {
    const auto job = managed.job(request.at("job").get<uint64_t>());
    if (!job) return error_of(job.error());
    if (!job->done) return {{"done", false}};
    if (!job->status) {
        Json failed = error_of(job->status.error());
        failed["done"] = true;
        return failed;
    }
    const CompactReport& report = job->report;
    const double seconds = report.study_s + report.solve_s + report.swap_s;
    return {{"done", true},
            {"result",
             {{"success", true},
              {"method", job->method},
              {"compacted_tokens", report.cells_after},
              {"original_tokens", report.cells_before},
              {"compression_ratio",
               static_cast<double>(report.cells_before) / static_cast<double>(report.cells_after)},
              {"compaction_time_ms", std::llround(1000 * seconds)},
              {"solved_on", to_text(report.solved_on)},
              {"figures", figures_json<Json>(report.figures)}}}};
}

Json change_policy(Registry& registry, ManagedContext& managed, const Json& request) {
    const auto policy = changed(managed.policy(), request);
    if (!policy) return error_of(policy.error());
    if (const Status status = registry.set_policy(*policy); !status) return error_of(status.error());
    return {{"policy", policy_json(*policy, managed.cells_of_a_sequence())}};
}

Json stop(Registry& registry) {
    log_info("the program is told to stop: what waits for room gets it from {}", kQuickest->name);
    registry.hurry(true);
    return Json::object();
}

Json methods() {
    Json list = Json::array();
    for (const Method* method : all_methods())
        list.push_back({{"name", method->name}, {"advice", method->advice}});
    return {{"methods", list}};
}

bool write_line(int fd, std::string line) {
    line += '\n';
    for (size_t sent = 0; sent < line.size();) {
        const ssize_t count = ::send(fd, line.data() + sent, line.size() - sent, kNoSignal);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        sent += static_cast<size_t>(count);
    }
    return true;
}

Json answer_line(Registry& registry, const std::string& line) {
    const Json request = parse_json(line);
    if (!request.is_object()) return error_of(kBadRequest, "not a JSON object");
    Json reply = answer(registry, request);
    if (request.contains("id")) reply["id"] = request["id"];
    return reply;
}

void serve(Registry& registry, const FileDescriptor& channel) {
    std::string pending;
    char bytes[4096];
    for (;;) {
        const ssize_t count = ::recv(channel.get(), bytes, sizeof bytes, 0);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) break;
        pending.append(bytes, static_cast<size_t>(count));
        for (size_t end; (end = pending.find('\n')) != std::string::npos; pending.erase(0, end + 1)) {
            const Json reply = answer_line(registry, pending.substr(0, end));
            if (!write_line(channel.get(), to_text(reply))) return;
        }
    }
}

constexpr size_t kLongestName = 256; // of a program; kvfold serve takes short lines only

std::string hello(const char* channel) {
#ifdef __APPLE__ // untested
    const std::string_view program = getprogname();
#else
    const std::string_view program = program_invocation_short_name;
#endif
    const Json hello = {
        {"pid", ::getpid()}, {"program", program.substr(0, kLongestName)}, {"channel", channel}};
    return to_text(hello);
}

} // namespace

Result<Policy> changed(Policy policy, const Json& request) {
    for (const Limit& limit : limits::all) {
        if (const auto value = request.find(limit.name); value != request.end())
            KVFOLD_CHECK(check_json(limit, *value));
    }
    KVFOLD_TRY(policy.method, method_of(request, policy));
    if (request.contains("solve_on")) {
        KVFOLD_TRY(policy.solve_on, solve_on_named(request.at("solve_on").get<std::string>()));
    }
    policy.automatic = request.value("automatic", policy.automatic);
    policy.ratio = request.value("ratio", policy.ratio);
    policy.high_water = request.value("high_water", policy.high_water);
    policy.keep_first = request.value("keep_first", policy.keep_first);
    policy.keep_last = request.value("keep_last", policy.keep_last);
    return policy;
}

Json answer(Registry& registry, const Json& request) {
    try {
        const std::string op = request.value("op", "");
        if (op == "summary") return {{"context", registry.describe()}, {"busy_s", registry.busy_s()}};
        if (op == "stop") return stop(registry);
        if (op == "state") return state(registry);
        if (op == "methods") return methods();
        const auto managed = registry.managed();
        if (!managed) return error_of(kNoContext, "the program has no context that kvfold manages");
        if (op == "compact") return compact(*managed, request);
        if (op == "unfold") return unfold(*managed, request);
        if (op == "job") return job(*managed, request);
        if (op == "policy") return change_policy(registry, *managed, request);
        return error_of(kBadRequest,
                        "op must be summary, state, methods, compact, unfold, job, policy or stop");
    } catch (const Json::exception& error) {
        return error_of(kBadRequest, error.what());
    } catch (const std::exception& error) {
        return error_of(kFailed, error.what());
    }
}

bool connect_control(Registry& registry) {
    if (!registry.control()) return false;
    for (const char* channel : {"pulse", "control"}) {
        Result<FileDescriptor> socket = connect_to(*registry.control());
        if (!socket) {
            log_warning("no dashboard and no stop reach this process: {}", socket.error().message);
            return false;
        }
        if (!write_line(socket->get(), hello(channel))) return false; // whoever listened has gone
        serve_control(registry, *std::move(socket));
    }
    return true;
}

void serve_control(Registry& registry, FileDescriptor socket) {
    std::thread([&registry, channel = std::move(socket)] {
        sigset_t all; // signals are the program's business
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, nullptr);
        try {
            serve(registry, channel);
        } catch (const std::exception& error) {
            log_error("the control channel ends: {}", error.what());
        }
        registry.hurry(false); // whoever announced a stop has gone, and the program has not
    }).detach();
}

} // namespace kvfold::preload
