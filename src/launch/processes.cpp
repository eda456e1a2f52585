#include "launch/processes.h"

#include "base/printable.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <future>
#include <iterator>
#include <limits>
#include <poll.h>
#include <sys/socket.h>

namespace kvfold::launch {

using std::chrono::milliseconds;

namespace {

constexpr milliseconds kPulsePatience{500}; // for what is answered at once
constexpr milliseconds kPause{100};         // before newcomers are listened to once more
constexpr size_t kLongestHello = 4096;
constexpr size_t kMostNewcomers = 64;

struct Hello {
    int pid;
    std::string program;
    bool is_pulse;
};

std::optional<Hello> parse_hello(std::string_view line) {
    const Json hello = parse_json(line);
    if (!hello.is_object()) return std::nullopt;
    const auto pid = hello.find("pid"), program = hello.find("program"), channel = hello.find("channel");
    if (pid == hello.end() || !pid->is_number_integer() || program == hello.end() || !program->is_string())
        return std::nullopt;
    if (channel == hello.end() || (*channel != "pulse" && *channel != "control")) return std::nullopt;
    const auto number = pid->get<double>();
    if (number < 1 || number > std::numeric_limits<int>::max()) return std::nullopt;
    return Hello{pid->get<int>(), program->get<std::string>(), *channel == "pulse"};
}

// As an answer, so that it has an HTTP status.
Json refusal(int code, const std::string& message) {
    return {{"error", {{"code", code}, {"message", message}}}};
}

bool changes_something(const std::string& op) { return op != "state" && op != "methods"; }

// What the list of processes says of a context, by the names that the state has for it.
Json summary_of(const Json& answer) {
    Json summary = {{"file", ""}, {"model", ""}, {"cells", 0}, {"virtual_cells", 0}, {"managed", false}};
    const auto context = answer.find("context");
    if (context == answer.end() || !context->is_object()) return summary;
    for (auto& [name, value] : summary.items()) {
        const auto said = context->find(name);
        if (said == context->end()) continue;
        if (said->type() == value.type() || (said->is_number() && value.is_number())) value = *said;
    }
    return summary;
}

} // namespace

struct Processes::Process {
    Process(Hello hello, FileDescriptor socket, FileDescriptor beat, milliseconds patience)
        : pid(hello.pid), program(std::move(hello.program)), channel(std::move(socket), patience),
          pulse(std::move(beat), std::min(patience, kPulsePatience)) {}

    Json facts() {
        const std::lock_guard lock(mutex);
        Json facts = {{"pid", pid}, {"program", program}};
        facts.update(summary);
        return facts;
    }
    std::string name() {
        const Json known = facts();
        const auto &file = known["file"], &model = known["model"];
        const Json& shown = file != "" ? file : model != "" ? model : known["program"];
        return kvfold::format("{} ({})", pid, printable(shown.get_ref<const std::string&>()));
    }
    // Its answer, from which the summary is learned; none: it is late, or an error.
    std::optional<Json> hear(ControlChannel& from, const char* op) {
        Result<Json> answer = from.ask({{"op", op}});
        if (!answer || answer->contains("error")) return std::nullopt;
        const std::lock_guard lock(mutex);
        summary = summary_of(*answer);
        return *std::move(answer);
    }
    // {"pid":7,"program":"..",..} as it is known, and how it is now.
    Json listed() {
        const std::optional<Json> answer = hear(pulse, "summary");
        Json told = facts();
        const auto busy = answer ? answer->find("busy_s") : Json::const_iterator();
        told["answers"] = answer.has_value();
        told["busy_s"] = answer && busy != answer->end() && busy->is_number() ? *busy : Json(0.0);
        return told;
    }
    // The same as it is known, with the "state" where it answers in time.
    Json whole() {
        std::optional<Json> state = hear(channel, "state");
        Json told = facts();
        if (state) told["state"] = *std::move(state);
        return told;
    }

    const int pid;
    const std::string program;
    ControlChannel channel; // an answer may have to wait for the context
    ControlChannel pulse;   // answered at once, whatever the program does
    std::mutex mutex;       // guards summary
    Json summary = summary_of(Json::object());
};

Processes::~Processes() {
    door_.request_stop();
    leave_.reset(); // wakes it
}

Result<std::unique_ptr<Processes>> Processes::listen(milliseconds patience) {
    KVFOLD_TRY(std::unique_ptr<ControlSocket> socket, ControlSocket::open());
    std::unique_ptr<Processes> processes(new Processes(std::move(socket), patience));
    int ends[2];
    if (::pipe(ends) != 0)
        return fail(ErrorCode::io, "no pipe for the control socket: {}", std::strerror(errno));
    for (const int end : ends)
        ::fcntl(end, F_SETFD, FD_CLOEXEC);
    processes->leave_.reset(ends[1]);
    processes->door_ =
        std::jthread([all = processes.get(), left = FileDescriptor(ends[0])](const std::stop_token& stop) {
            while (!stop.stop_requested())
                all->wait_at_the_door(left);
        });
    return processes;
}

// Whoever connects is let in although nobody asks.
void Processes::wait_at_the_door(const FileDescriptor& left) {
    present();
    bool is_somebody_new = false; // who has connected, and said nothing yet
    {
        const std::lock_guard lock(mutex_);
        is_somebody_new = !newcomers_.empty();
    }
    pollfd wanted[] = {{left.get(), 0, 0}, {socket_->listener(), POLLIN, 0}};
    // Who still stands there could not be let in, as without a free file descriptor: later then.
    const bool is_stuck = ::poll(&wanted[1], 1, 0) > 0;
    const int patience = is_somebody_new || is_stuck ? static_cast<int>(kPause.count()) : -1;
    ::poll(wanted, is_stuck ? 1 : 2, patience);
}

// False: it has nothing more to say, either way.
bool Processes::greet(FileDescriptor& newcomer) {
    char text[kLongestHello];
    const ssize_t got = ::recv(newcomer.get(), text, sizeof(text), MSG_PEEK | MSG_DONTWAIT);
    if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    const std::string_view said(text, static_cast<size_t>(got));
    const size_t end = said.find('\n');
    // A line comes in one piece or soon after; the last byte of a line that is too long never comes.
    if (end == std::string_view::npos) return got > 0 && said.size() < kLongestHello;
    const auto hello = parse_hello(said.substr(0, end));
    if (!hello || ::recv(newcomer.get(), text, end + 1, MSG_DONTWAIT) != static_cast<ssize_t>(end + 1))
        return false;
    if (hello->is_pulse) {
        pulses_[hello->pid] = std::move(newcomer);
        return false;
    }
    auto pulse = pulses_.extract(hello->pid);
    if (pulse.empty()) return false;
    // A process that became another program has lost its old channels.
    std::erase_if(members_, [&](const auto& member) { return member->pid == hello->pid; });
    members_.push_back(
        std::make_shared<Process>(*hello, std::move(newcomer), std::move(pulse.mapped()), patience_));
    had_members_ = true;
    return false;
}

// A process opens its pulse first, so that it is found when its channel comes.
Processes::Members Processes::present() {
    const std::lock_guard lock(mutex_);
    while (auto newcomer = socket_->accept())
        newcomers_.push_back(*std::move(newcomer));
    std::erase_if(newcomers_, [this](FileDescriptor& newcomer) { return !greet(newcomer); });
    if (newcomers_.size() > kMostNewcomers)
        newcomers_.erase(newcomers_.begin(), newcomers_.end() - kMostNewcomers);
    while (pulses_.size() > kMostNewcomers)
        pulses_.erase(pulses_.begin());
    std::erase_if(members_, [](const auto& member) { return member->channel.has_ended(); });
    return members_;
}

void Processes::announce_stop() {
    ask_each(present(), [](Process& member) {
        member.pulse.ask({{"op", "stop"}}); // one that has ended already needs to know nothing
        return Json();
    });
}

tl::unexpected<Error> Processes::nobody() {
    const std::lock_guard lock(mutex_);
    if (had_members_) return fail(ErrorCode::io, "the program has no process with llama.cpp in it any more");
    return fail(ErrorCode::llama, "no process has loaded llama.cpp yet; the program may still be loading its "
                                  "model, or kvfold is not active in it");
}

Result<Json> Processes::ask(const Json& request) {
    if (!request.is_object())
        return fail(ErrorCode::invalid_argument, "a control request must be a JSON object");
    const auto op = request.find("op");
    const Members members = present();
    if (op != request.end() && *op == "processes") return ask_each(members, &Process::listed);
    if (members.empty()) return nobody();
    if (op != request.end() && *op == "states") return ask_each(members, &Process::whole);
    return ask_one(members, request);
}

Result<Json> Processes::ask_one(const Members& members, const Json& request) {
    const auto names = [&] { return joined(members, ", ", &Process::name); };
    const auto wanted = request.find("process");
    auto chosen = members.begin();
    if (wanted != request.end()) {
        chosen = std::find_if(members.begin(), members.end(),
                              [&](const auto& member) { return *wanted == member->pid; });
        if (chosen == members.end())
            return refusal(404,
                           kvfold::format("no process {}; there are {}", printable_json(*wanted), names()));
    } else if (members.size() > 1 && changes_something(request.value("op", ""))) {
        return refusal(400, kvfold::format("which process? There are {}; give \"process\"", names()));
    }
    Json question = request;
    question.erase("process");
    KVFOLD_TRY(Json answer, (*chosen)->channel.ask(question));
    // A number of a job means nothing without its process; another one may join before the next question.
    if (answer.contains("job")) answer["process"] = (*chosen)->pid;
    return answer;
}

// All at once, so that one that is slow costs the others nothing.
Json Processes::ask_each(const Members& members, const std::function<Json(Process&)>& question) {
    std::vector<std::future<Json>> answers;
    for (const auto& member : members)
        answers.push_back(std::async(members.size() == 1 ? std::launch::deferred : std::launch::async,
                                     [&member, &question] { return question(*member); }));
    Json list = Json::array();
    for (auto& answer : answers)
        list.push_back(answer.get());
    return Json{{"processes", list}};
}

} // namespace kvfold::launch
