#include "launch/processes.h"

#include "base/printable.h"

#include <algorithm>
#include <cerrno>
#include <future>
#include <limits>
#include <sys/socket.h>

namespace kvfold::launch {

using admin::Json;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kListPatience{500}; // for names and sizes, which are known from before
constexpr size_t kLongestHello = 4096;
constexpr size_t kMostNewcomers = 64;

struct Hello {
    int pid;
    std::string program;
};

std::optional<Hello> parse_hello(std::string_view line) {
    const Json hello = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!hello.is_object()) return std::nullopt;
    const auto pid = hello.find("pid"), program = hello.find("program");
    if (pid == hello.end() || !pid->is_number_integer() || program == hello.end() || !program->is_string())
        return std::nullopt;
    const auto number = pid->get<double>();
    if (number < 1 || number > std::numeric_limits<int>::max()) return std::nullopt;
    return Hello{pid->get<int>(), program->get<std::string>()};
}

// As an answer, so that it has an HTTP status.
Json refusal(int code, const std::string& message) {
    return {{"error", {{"code", code}, {"message", message}}}};
}

bool changes_something(const std::string& op) { return op != "state" && op != "methods"; }

// What the list of processes says of a context, by the names that the state has for it.
Json summary_of(const Json& state) {
    Json summary = {{"file", ""}, {"model", ""}, {"cells", 0}, {"virtual_cells", 0}, {"managed", false}};
    const auto context = state.find("context");
    if (context == state.end() || !context->is_object()) return summary;
    for (auto& [name, value] : summary.items()) {
        const auto said = context->find(name);
        if (said == context->end()) continue;
        if (said->type() == value.type() || (said->is_number() && value.is_number())) value = *said;
    }
    return summary;
}

} // namespace

struct Processes::Process {
    Process(Hello hello, FileDescriptor socket, milliseconds patience)
        : pid(hello.pid), program(std::move(hello.program)), channel(std::move(socket), patience) {}

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
    // {"pid":7,"program":"..",..} as it is known, and whole with the "state" where it answers in time.
    Json tell(milliseconds wait, bool whole) {
        Result<Json> state = channel.ask({{"op", "state"}}, wait);
        const bool answered = state && !state->contains("error");
        if (answered) {
            const std::lock_guard lock(mutex);
            summary = summary_of(*state);
        }
        Json told = facts();
        if (whole && answered) told["state"] = *std::move(state);
        return told;
    }

    const int pid;
    const std::string program;
    ControlChannel channel;
    std::mutex mutex; // guards summary
    Json summary = summary_of(Json::object());
};

Processes::~Processes() = default;

Result<std::unique_ptr<Processes>> Processes::listen(milliseconds patience) {
    KVFOLD_TRY(std::unique_ptr<ControlSocket> socket, ControlSocket::open());
    return std::unique_ptr<Processes>(new Processes(std::move(socket), patience));
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
    // A process that became another program has lost its old channel.
    std::erase_if(members_, [&](const auto& member) { return member->pid == hello->pid; });
    members_.push_back(std::make_shared<Process>(*hello, std::move(newcomer), patience_));
    had_members_ = true;
    return false;
}

Processes::Members Processes::present() {
    const std::lock_guard lock(mutex_);
    while (auto newcomer = socket_->accept()) {
        if (!greet(*newcomer)) continue;
        newcomers_.push_back(*std::move(newcomer));
        if (newcomers_.size() > kMostNewcomers) newcomers_.erase(newcomers_.begin());
    }
    std::erase_if(newcomers_, [this](FileDescriptor& newcomer) { return !greet(newcomer); });
    std::erase_if(members_, [](const auto& member) { return member->channel.has_ended(); });
    return members_;
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
    if (op != request.end() && *op == "processes") return ask_all(members, /*whole=*/false);
    if (members.empty()) return nobody();
    if (op != request.end() && *op == "states") return ask_all(members, /*whole=*/true);
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
Result<Json> Processes::ask_all(const Members& members, bool whole) {
    const milliseconds wait = whole ? patience_ : std::min(patience_, kListPatience);
    std::vector<std::future<Json>> answers;
    for (const auto& member : members)
        answers.push_back(std::async(members.size() == 1 ? std::launch::deferred : std::launch::async,
                                     [&member, wait, whole] { return member->tell(wait, whole); }));
    Json list = Json::array();
    for (auto& answer : answers)
        list.push_back(answer.get());
    return Json{{"processes", list}};
}

} // namespace kvfold::launch
