#include "launch/control_channel.h"

#include "base/unix_socket.h"

#include <cerrno>
#include <cstring>
#include <poll.h>

namespace kvfold::launch {

using std::chrono::steady_clock;

namespace {

constexpr int kFlags = MSG_DONTWAIT | kNoSignal;

tl::unexpected<Error> no_answer() {
    return fail(ErrorCode::llama, "the program does not answer; it may be busy");
}

tl::unexpected<Error> closed() {
    return fail(ErrorCode::io, "the program has ended or closed its control channel");
}

// An answer nested deeper than any of ours is refused: copying it and writing it out take a deep stack.
constexpr int kDeepestAnswer = 32;

Result<Json> parse_answer(const std::string& text) {
    bool too_deep = false;
    const auto look = [&too_deep](int depth, Json::parse_event_t, Json&) {
        too_deep = too_deep || depth > kDeepestAnswer;
        return !too_deep;
    };
    Json answer = Json::parse(text, look, /*allow_exceptions=*/false);
    if (too_deep)
        return fail(ErrorCode::llama, "the program's answer is nested more than {} deep", kDeepestAnswer);
    if (!answer.is_object()) return fail(ErrorCode::llama, "the program's answer is not a JSON object");
    return answer;
}

bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK; }

} // namespace

Status ControlChannel::wait_for(short events, Deadline deadline) const {
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - steady_clock::now());
        if (left.count() <= 0) return no_answer();
        pollfd wanted = {socket_.get(), events, 0};
        const int ready = poll(&wanted, 1, static_cast<int>(left.count()));
        if (ready > 0) return {};
        if (ready < 0 && errno != EINTR)
            return fail(ErrorCode::io, "control channel: {}", std::strerror(errno));
    }
}

Status ControlChannel::send_unsent(Deadline deadline) {
    while (sent_ < unsent_.size()) {
        const ssize_t sent = ::send(socket_.get(), unsent_.data() + sent_, unsent_.size() - sent_, kFlags);
        if (sent >= 0) {
            sent_ += static_cast<size_t>(sent);
            continue;
        }
        if (errno == EINTR) continue;
        if (!would_block()) return closed();
        KVFOLD_CHECK(wait_for(POLLOUT, deadline));
    }
    unsent_.clear();
    sent_ = 0;
    return {};
}

Result<std::string> ControlChannel::receive_line(Deadline deadline) {
    size_t searched = 0;
    for (;;) {
        if (const size_t end = received_.find('\n', searched); end != std::string::npos) {
            std::string line = received_.substr(0, end);
            received_.erase(0, end + 1);
            return line;
        }
        searched = received_.size();
        if (received_.size() > kLongestLine) {
            socket_.reset(); // where the next answer begins cannot be known
            return fail(ErrorCode::corrupt, "the program's answer is longer than {} bytes", kLongestLine);
        }
        char block[65536];
        const ssize_t got = ::recv(socket_.get(), block, sizeof(block), kFlags);
        if (got > 0) received_.append(block, static_cast<size_t>(got));
        if (got > 0 || (got < 0 && errno == EINTR)) continue;
        if (got == 0 || !would_block()) return closed();
        KVFOLD_CHECK(wait_for(POLLIN, deadline));
    }
}

bool ControlChannel::has_ended() {
    const std::lock_guard lock(mutex_); // nobody begins to ask meanwhile
    if (busy_) return false;
    pollfd wanted = {socket_.get(), 0, 0}; // the ends come unasked
    return socket_.get() < 0 || (poll(&wanted, 1, 0) > 0 && wanted.revents != 0);
}

Result<Json> ControlChannel::ask(const Json& request, std::chrono::milliseconds patience) {
    if (!request.is_object())
        return fail(ErrorCode::invalid_argument, "a control request must be a JSON object");
    const Deadline deadline = steady_clock::now() + patience;
    std::unique_lock lock(mutex_);
    if (!free_.wait_until(lock, deadline, [this] { return !busy_; })) return no_answer();
    busy_ = true;
    lock.unlock();
    struct Turn { // ends also when memory runs out within
        ControlChannel& channel;
        ~Turn() {
            const std::lock_guard lock(channel.mutex_);
            channel.busy_ = false;
            channel.free_.notify_one();
        }
    } const turn{*this};
    return exchange(request, deadline);
}

Result<Json> ControlChannel::exchange(const Json& request, Deadline deadline) {
    KVFOLD_CHECK(send_unsent(deadline));

    Json numbered = request;
    numbered["id"] = ++last_id_;
    std::string line = to_text(numbered) + '\n';
    if (line.size() > kLongestLine)
        return fail(ErrorCode::invalid_argument, "a control request must be shorter than {} bytes",
                    kLongestLine);
    unsent_ = std::move(line);
    KVFOLD_CHECK(send_unsent(deadline));
    for (;;) {
        KVFOLD_TRY(const std::string text, receive_line(deadline));
        KVFOLD_TRY(Json answer, parse_answer(text));
        const auto id = answer.find("id");
        if (id == answer.end() || *id != Json(last_id_)) continue; // for a request that was given up
        answer.erase(id);
        return answer;
    }
}

} // namespace kvfold::launch
