#include "base/format.h"
#include "launch/control_channel.h"

#include <gtest/gtest.h>

#include <atomic>
#include <fcntl.h>
#include <functional>
#include <sys/socket.h>
#include <thread>

namespace kvfold::launch {
namespace {

using admin::Json;
using std::chrono::milliseconds;

constexpr milliseconds kShort{50};
constexpr milliseconds kLong{20000}; // never reached in a test that passes

// The program's end, driven by the test.
class Peer {
  public:
    explicit Peer(FileDescriptor socket) : socket_(std::move(socket)) {}
    ~Peer() { hang_up(); }

    // Answers each request until kvfold closes; what `answer` returns is sent as it is.
    void serve(std::function<std::string(const Json&)> answer) {
        thread_ = std::thread([this, answer = std::move(answer)] {
            for (std::string line; !(line = read_line()).empty();)
                write(answer(Json::parse(line)));
        });
    }
    Json next_request() { return Json::parse(read_line()); }
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

  private:
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

    std::string received_;
    FileDescriptor socket_;
    std::thread thread_;
};

struct Pair {
    explicit Pair(milliseconds patience) : Pair(open_control_sockets().value(), patience) {}
    ControlChannel channel;
    Peer peer;

  private:
    Pair(ControlSockets sockets, milliseconds patience)
        : channel(std::move(sockets.ours), patience), peer(std::move(sockets.theirs)) {}
};

std::string echo(const Json& request) {
    return Json{{"id", request["id"]}, {"op", request["op"]}}.dump() + "\n";
}

TEST(ControlChannel, AnAnswerComesWithoutItsId) {
    Pair pair(kLong);
    pair.peer.serve(echo);
    EXPECT_EQ(pair.channel.ask({{"op", "state"}}), (Json{{"op", "state"}}));
    EXPECT_EQ(pair.channel.ask({{"op", "policy"}}), (Json{{"op", "policy"}}));
}

TEST(ControlChannel, OnlyTheAnswerWithTheRequestsIdIsTaken) {
    Pair pair(kLong);
    pair.peer.serve([](const Json& request) {
        const int id = request["id"];
        return kvfold::format(
            "{{\"id\":{},\"n\":1}}\n{{\"n\":2}}\n{{\"id\":\"{}\",\"n\":3}}\n{{\"id\":{},\"n\":4}}\n", id + 1,
            id, id);
    });
    EXPECT_EQ(pair.channel.ask({{"op", "state"}}), (Json{{"n", 4}}));
}

TEST(ControlChannel, ALateAnswerIsNotTakenForTheNextOne) {
    Pair pair(kShort);
    const auto missed = pair.channel.ask({{"op", "first"}});
    ASSERT_FALSE(missed);
    pair.peer.write(echo(pair.peer.next_request())); // now, too late
    pair.peer.serve(echo);
    Result<Json> answer = pair.channel.ask({{"op", "second"}});
    for (int tries = 0; !answer && tries < 100; ++tries) // a slow machine
        answer = pair.channel.ask({{"op", "second"}});
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(*answer, (Json{{"op", "second"}}));
}

TEST(ControlChannel, SilenceIsAnErrorOfTheProgram) {
    Pair pair(kShort);
    const auto answer = pair.channel.ask({{"op", "state"}});
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, ErrorCode::llama);
    EXPECT_EQ(answer.error().message.find("the program does not answer; "), 0u);
}

TEST(ControlChannel, AClosedPeerIsAnErrorAtOnce) {
    Pair pair(kLong);
    pair.peer.hang_up();
    for (int again = 0; again < 2; ++again) {
        const auto answer = pair.channel.ask({{"op", "state"}});
        ASSERT_FALSE(answer);
        EXPECT_EQ(answer.error().code, ErrorCode::io);
    }
}

TEST(ControlChannel, APeerThatClosesInsteadOfAnsweringIsAnErrorAtOnce) {
    Pair pair(kLong);
    std::thread program([&] {
        pair.peer.next_request();
        pair.peer.hang_up();
    });
    const auto answer = pair.channel.ask({{"op", "state"}});
    program.join();
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, ErrorCode::io);
}

TEST(ControlChannel, ThreadsGetTheirOwnAnswers) {
    Pair pair(kLong);
    pair.peer.serve(echo);
    std::atomic<int> right = 0;
    const auto ask_often = [&](const char* name) {
        for (int i = 0; i < 500; ++i) {
            const std::string op = kvfold::format("{} {}", name, i);
            const auto answer = pair.channel.ask({{"op", op}});
            if (answer && *answer == Json{{"op", op}}) ++right;
        }
    };
    std::thread other(ask_often, "other");
    ask_often("this");
    other.join();
    EXPECT_EQ(right, 1000);
}

TEST(ControlChannel, ARequestThatWasTakenHalfIsFinishedBeforeTheNext) {
    Pair pair(kShort);
    const Json large = {{"op", std::string(4 << 20, 'x')}}; // more than a socket holds
    ASSERT_FALSE(pair.channel.ask(large));
    ASSERT_FALSE(pair.channel.ask({{"op", "dropped"}})); // could not be sent
    pair.peer.serve(echo);                               // parses every line
    Result<Json> answer = pair.channel.ask({{"op", "next"}});
    for (int tries = 0; !answer && tries < 100; ++tries)
        answer = pair.channel.ask({{"op", "next"}});
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(*answer, (Json{{"op", "next"}}));
}

TEST(ControlChannel, AnAnswerInPiecesIsJoined) {
    Pair pair(kLong);
    pair.peer.serve([&](const Json& request) {
        const std::string text = echo(request);
        for (size_t i = 0; i + 1 < text.size(); ++i)
            pair.peer.write(text.substr(i, 1));
        return std::string("\n");
    });
    EXPECT_EQ(pair.channel.ask({{"op", "state"}}), (Json{{"op", "state"}}));
}

TEST(ControlChannel, WhatIsNoObjectIsAnError) {
    Pair pair(kLong);
    pair.peer.serve([](const Json& request) { return request["op"] == "list" ? "[1]\n" : "not JSON\n"; });
    EXPECT_EQ(pair.channel.ask({{"op", "list"}}).error().code, ErrorCode::llama);
    EXPECT_EQ(pair.channel.ask({{"op", "text"}}).error().code, ErrorCode::llama);
    EXPECT_EQ(pair.channel.ask(Json::array()).error().code, ErrorCode::invalid_argument);
}

TEST(ControlChannel, AnAnswerNestedDeepIsAnError) {
    Pair pair(kLong);
    const auto nested = [](size_t depth) {
        return "{\"id\":1,\"a\":" + std::string(depth, '[') + std::string(depth, ']') + "}\n";
    };
    pair.peer.serve([&](const Json&) { return nested(500000); });
    const auto answer = pair.channel.ask({{"op", "state"}});
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, ErrorCode::llama);
    EXPECT_NE(answer.error().message.find("nested"), std::string::npos) << answer.error().message;
}

TEST(ControlChannel, LinesAreLimited) {
    Pair pair(kLong);
    EXPECT_EQ(pair.channel.ask({{"op", std::string(kLongestLine, 'x')}}).error().code,
              ErrorCode::invalid_argument);
    pair.peer.serve([](const Json&) { return std::string(kLongestLine + 70000, 'x'); });
    EXPECT_EQ(pair.channel.ask({{"op", "state"}}).error().code, ErrorCode::corrupt);
    EXPECT_EQ(pair.channel.ask({{"op", "state"}}).error().code, ErrorCode::io);
}

TEST(ControlChannel, NeitherEndGoesToOtherPrograms) {
    const ControlSockets sockets = open_control_sockets().value();
    EXPECT_TRUE(fcntl(sockets.ours.get(), F_GETFD) & FD_CLOEXEC);
    EXPECT_TRUE(fcntl(sockets.theirs.get(), F_GETFD) & FD_CLOEXEC);
}

} // namespace
} // namespace kvfold::launch
