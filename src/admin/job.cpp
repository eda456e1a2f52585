#include "admin/job.h"

namespace kvfold::admin {
namespace {

using namespace std::chrono_literals;
constexpr auto kBetweenQuestions = 50ms;

constexpr int kNotUnderstood = 502;
constexpr int kNoAnswer = 503;
constexpr int kClientGone = 499; // nobody reads it

// The HTTP status that an error carries; 500 when it carries none.
int status_of(const Json& error) {
    const auto code = error.find("code");
    const double status = code != error.end() && code->is_number() ? code->get<double>() : 0;
    return status >= 400 && status <= 599 ? static_cast<int>(status) : 500;
}

} // namespace

Reply error_reply(int status, const std::string& message) {
    return {status, {{"error", {{"code", status}, {"message", message}}}}};
}

Reply reply_of(const Result<Json>& answer) {
    if (!answer) return error_reply(kNoAnswer, answer.error().message);
    if (!answer->is_object()) return error_reply(kNotUnderstood, "the server's answer is not an object");
    const auto error = answer->find("error");
    if (error == answer->end()) return {200, *answer};
    if (!error->is_object()) return error_reply(kNotUnderstood, "the server's error is not an object");
    return error_reply(status_of(*error), error->value("message", "no reason was given"));
}

void StopSignal::raise() {
    {
        const std::lock_guard lock(mutex_);
        raised_ = true;
    }
    raised_changed_.notify_all();
}

bool StopSignal::sleep(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    return !raised_changed_.wait_for(lock, time, [&] { return raised_; });
}

Reply compact(Control& control, const Json& request, const Peer& peer, StopSignal& stop) {
    const Reply started = reply_of(control.ask(request));
    if (started.status != 200) return started;
    if (!started.body.contains("job")) return error_reply(kNotUnderstood, "the server's answer has no job");

    Json question = {{"op", "job"}, {"job", started.body["job"]}};
    if (started.body.contains("process")) question["process"] = started.body["process"];
    while (true) {
        const Reply answer = reply_of(control.ask(question));
        if (answer.status != 200) return answer;
        if (answer.body.value("done", false)) {
            const auto result = answer.body.find("result");
            if (result != answer.body.end()) return {200, *result};
            return error_reply(kNotUnderstood, "the job ended without a result");
        }
        if (peer.is_gone()) return error_reply(kClientGone, "the client is gone; the compaction goes on");
        if (!stop.sleep(kBetweenQuestions))
            return error_reply(kNoAnswer, "the admin server is stopping; the compaction goes on");
    }
}

} // namespace kvfold::admin
