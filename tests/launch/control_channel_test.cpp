#include "base/format.h"
#include "launch/control_channel.h"
#include "launch/peer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <sys/socket.h>
#include <thread>

namespace kvfold::launch {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kShort{50};
constexpr milliseconds kLong{20000}; // never reached in a test that passes

struct Pair {
    explicit Pair(milliseconds patience) : Pair(connected(), patience) {}
    ControlChannel channel;
    Peer peer;

  private:
    using Ends = std::pair<FileDescriptor, FileDescriptor>;
    static Ends connected() {
        int ends[2] = {-1, -1};
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
    }
    Pair(Ends ends, milliseconds patience)
        : channel(std::move(ends.first), patience), peer(std::move(ends.second)) {}
};

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

TEST(ControlChannel, AnEndIsSeenWithoutAsking) {
    Pair pair(kLong);
    pair.peer.write("{\"late\":1}\n"); // an answer that nobody waits for does not hide it
    EXPECT_FALSE(pair.channel.has_ended());
    pair.peer.hang_up();
    EXPECT_TRUE(pair.channel.has_ended());
}

} // namespace
} // namespace kvfold::launch
