#include "fuzz/requests.h"

#include "admin/job.h"
#include "admin/metrics.h"
#include "base/format.h"
#include "base/unix_socket.h"
#include "launch/processes.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

namespace kvfold::testing {
namespace {

template <class T> bool is_one_line(const Result<T>& failed) {
    const std::string& message = failed.error().message;
    return !message.empty() && message.find_first_of("\r\n") == std::string::npos;
}

// Wider than the ranges of kvfold: what the other side can use without harm.
bool is_usable(const std::string& name, const Json& value) {
    const auto lies_in = [&value](double least, double most) {
        return value.is_number() && value.get<double>() >= least && value.get<double>() <= most;
    };
    constexpr double kMostCells = std::numeric_limits<int32_t>::max();
    if (name == "id_slot" || name == "keep_first") return value.is_number_integer() && lies_in(0, kMostCells);
    if (name == "process") return value.is_number_integer() && lies_in(1, kMostCells);
    if (name == "keep_last") return value.is_number_integer() && lies_in(-1, kMostCells);
    if (name == "ratio") return lies_in(1, std::numeric_limits<double>::max());
    if (name == "high_water") return lies_in(0, 1);
    if (name == "automatic") return value.is_boolean();
    return name == "method" && value.is_string() && !value.get_ref<const std::string&>().empty();
}

std::string wrong_with_body(std::string_view body, std::string_view op,
                            const std::function<Result<Json>(std::string_view)>& parse) {
    const Result<Json> request = parse(body);
    if (!request) return is_one_line(request) ? "" : "an error of a request is not one line";
    Json fields = *request;
    if (fields.value("op", "") != op) return "a request has another op";
    fields.erase("op");
    for (const auto& [name, value] : fields.items())
        if (!is_usable(name, value)) return kvfold::format("a request has a {} of {}", name, to_text(value));
    return parse(to_text(fields)) == *request ? "" : "a request is not accepted again";
}

std::string wrong_with_settings(std::string_view text, const Parsers& parsers) {
    const Result<launch::PreloadSettings> settings = parsers.settings(text);
    if (!settings) return is_one_line(settings) ? "" : "an error of the settings is not one line";
    return parsers.settings(parsers.settings_text(*settings)) == *settings ? ""
                                                                           : "settings read again are others";
}

std::string wrong_with_address(std::string_view text, const Parsers& parsers) {
    const Result<admin::AdminOptions> options = parsers.address(text);
    if (!options) return is_one_line(options) ? "" : "an error of an address is not one line";
    (void)admin::is_loopback(options->host);
    const auto again = parsers.address(kvfold::format("[{}]:{}", options->host, options->port));
    const bool same = again && again->host == options->host && again->port == options->port;
    return same ? "" : "an address read again is another";
}

// The file is the same one each time, and lies in memory.
std::string wrong_with_token(std::string_view text, const Parsers& parsers) {
    static const int file = memfd_create("token", MFD_CLOEXEC);
    const auto size = static_cast<ssize_t>(text.size());
    if (ftruncate(file, 0) != 0 || pwrite(file, text.data(), text.size(), 0) != size)
        return "the token file cannot be written";
    const Result<std::string> token = parsers.token(kvfold::format("/proc/self/fd/{}", file));
    if (!token) return is_one_line(token) ? "" : "an error of a token is not one line";
    const auto travels = [](char c) { return c > ' ' && c <= '~'; };
    const bool good = !token->empty() && std::all_of(token->begin(), token->end(), travels);
    return good ? "" : "a token cannot stand in a header";
}

} // namespace

std::string wrong_with_requests(std::span<const uint8_t> bytes, const Parsers& parsers) {
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    for (std::string wrong :
         {wrong_with_body(text, "compact", parsers.compact), wrong_with_body(text, "unfold", parsers.unfold),
          wrong_with_body(text, "policy", parsers.policy), wrong_with_settings(text, parsers),
          wrong_with_address(text, parsers), wrong_with_token(text, parsers)})
        if (!wrong.empty()) return wrong;
    return "";
}

std::string wrong_with_answer(std::span<const uint8_t> bytes) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) return "there is no socket pair";
    const FileDescriptor theirs(ends[1]);
    launch::ControlChannel channel{FileDescriptor(ends[0])};
    const ssize_t sent = ::send(theirs.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (sent != static_cast<ssize_t>(bytes.size())) return ""; // longer than a socket holds
    ::shutdown(theirs.get(), SHUT_WR);
    const Result<Json> answer = channel.ask({{"op", "state"}});
    if (!answer) return is_one_line(answer) ? "" : "an error of the channel is not one line";
    if (!answer->is_object() || answer->contains("id")) return "an answer is no object without an id";
    try { // as the server does: a field of another type throws
        const admin::Reply reply = admin::reply_of(answer);
        (void)to_text(reply.body);
        (void)admin::metrics_text(Json::array({{{"pid", 7}, {"state", *answer}}}));
    } catch (const Json::exception&) {
    }
    return "";
}

// The first line of the pulse of the process whose channel begins with this; none where it has no number.
std::string pulse_before(const std::string& hello) {
    Json said = parse_json(hello.substr(0, hello.find('\n')));
    if (!said.is_object() || !said.contains("pid") || !said["pid"].is_number_integer()) return "";
    const Json pulse = {{"pid", said["pid"]}, {"program", ""}, {"channel", "pulse"}};
    return to_text(pulse) + "\n";
}

// The bytes are the first that a process says.
std::string wrong_with_hello(std::span<const uint8_t> bytes) {
    static const auto listening = launch::Processes::listen();
    if (!listening) return listening.error().message;
    launch::Processes& processes = **listening;
    Result<FileDescriptor> pulse = connect_to(processes.path());
    if (!pulse) return "a process cannot connect";
    const std::string beat = pulse_before({bytes.begin(), bytes.end()});
    ::send(pulse->get(), beat.data(), beat.size(), MSG_DONTWAIT);
    ::shutdown(pulse->get(), SHUT_WR); // so that nobody waits for its answers
    Result<FileDescriptor> theirs = connect_to(processes.path());
    if (!theirs) return "a process cannot connect";
    const ssize_t sent = ::send(theirs->get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (sent != static_cast<ssize_t>(bytes.size())) return "";
    ::shutdown(theirs->get(), SHUT_WR);
    const Result<Json> list = processes.ask({{"op", "processes"}});
    if (!list) return "the processes are not listed";
    (void)admin::metrics_text(list->at("processes"));
    for (const Json& process : list->at("processes"))
        if (!is_usable("process", process.at("pid")))
            return "a process has a number that cannot be asked for";
    const Result<Json> refusal = processes.ask({{"op", "state"}, {"process", 0}});
    if (!refusal) return is_one_line(refusal) ? "" : "an error of the processes is not one line";
    const auto message = refusal->at("error").at("message").get<std::string>();
    return message.find_first_of("\r\n") == std::string::npos ? "" : "a refusal is not one line";
}

std::string wrong_with_request_bytes(std::span<const uint8_t> bytes) {
    const std::string wrong = wrong_with_requests(bytes, Parsers());
    if (!wrong.empty()) return wrong;
    const std::string with_answer = wrong_with_answer(bytes);
    return with_answer.empty() ? wrong_with_hello(bytes) : with_answer;
}

} // namespace kvfold::testing
