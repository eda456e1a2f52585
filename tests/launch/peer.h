// A process with llama.cpp in it, as far as its control channel can tell.
#pragma once

#include "admin/control.h"
#include "base/file_descriptor.h"
#include "support/valid_json.h"

#include <functional>
#include <sys/socket.h>
#include <thread>

namespace kvfold::launch {

// The program's end, driven by the test.
class Peer {
  public:
    explicit Peer(FileDescriptor socket) : socket_(std::move(socket)) {}
    ~Peer() { hang_up(); }

    // Answers each request until kvfold closes; what `answer` returns is sent as it is.
    void serve(std::function<std::string(const Json&)> answer) {
        thread_ = std::thread([this, answer = std::move(answer)] {
            for (std::string line; !(line = read_line()).empty();)
                write(answer(valid_json(line)));
        });
    }
    Json next_request() { return valid_json(read_line()); }
    void write(const std::string& text) {
        for (size_t done = 0; done < text.size();) {
            const ssize_t sent = ::send(socket_.get(), text.data() + done, text.size() - done, MSG_NOSIGNAL);
            if (sent <= 0) return;
            done += static_cast<size_t>(sent);
        }
    }
    void hang_up() {
        if (socket_.get() >= 0) shutdown(socket_.get(), SHUT_RDWR); // wakes the thread
        if (thread_.joinable()) thread_.join();
        socket_.reset();
    }

    int socket() const { return socket_.get(); }

    std::string read_line() { // empty: closed
        char block[65536];
        size_t end;
        while ((end = received_.find('\n')) == std::string::npos) {
            const ssize_t got = ::recv(socket_.get(), block, sizeof(block), 0);
            if (got <= 0) return {};
            received_.append(block, static_cast<size_t>(got));
        }
        const std::string line = received_.substr(0, end);
        received_.erase(0, end + 1);
        return line;
    }

  private:
    std::string received_;
    FileDescriptor socket_;
    std::thread thread_;
};

inline std::string echo(const Json& request) {
    return to_text(Json{{"id", request["id"]}, {"op", request["op"]}}) + "\n";
}

} // namespace kvfold::launch
