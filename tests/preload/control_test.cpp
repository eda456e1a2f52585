// The control channel of a program that has no context: what it answers, and that it lets go of its socket.
#include "fit/figures_json.h"
#include "preload/control.h"
#include "support/valid_json.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace kvfold::preload {
namespace {

TEST(Control, TheMethodsAreThoseOfTheTable) {
    const Json list = answer(Registry::get(), {{"op", "methods"}}).at("methods");
    ASSERT_EQ(list.size(), all_methods().size());
    for (size_t i = 0; i < list.size(); ++i) {
        EXPECT_EQ(list[i].at("name"), all_methods()[i]->name);
        EXPECT_EQ(list[i].at("advice"), all_methods()[i]->advice);
    }
}

TEST(Control, FiguresGoByTheirOwnNames) {
    EXPECT_EQ(figures_json<Json>({{"heads refitted", 12}, {"of any name", 0.5}}),
              valid_json(R"({"heads refitted":12.0,"of any name":0.5})"));
    EXPECT_EQ(figures_json<Json>({}), Json::object());
}

TEST(Control, AChangedPolicyKeepsWhatIsNotNamed) {
    Policy before;
    before.keep_first = 17;
    const auto after = changed(before, valid_json(R"({"ratio":3,"method":"best","keep_last":5})"));
    ASSERT_TRUE(after) << after.error().message;
    EXPECT_EQ(after->ratio, 3);
    EXPECT_EQ(after->method, *find_method("best"));
    EXPECT_EQ(after->keep_last, 5);
    EXPECT_EQ(after->keep_first, 17);
    EXPECT_FALSE(changed(before, valid_json(R"({"method":"none such"})")));
}

// Whether the other end of the socket was closed within ten seconds.
bool is_let_go(int ours) {
    pollfd wanted = {ours, 0, 0}; // POLLHUP comes unasked
    return ::poll(&wanted, 1, 10000) == 1 && (wanted.revents & POLLHUP) != 0;
}

TEST(Control, TheSocketIsClosedWhenTheOtherSideIsGone) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    serve_control(Registry::get(), FileDescriptor(ends[1]));
    ::shutdown(ends[0], SHUT_WR);
    EXPECT_TRUE(is_let_go(ends[0]));
    ::close(ends[0]);
}

TEST(Control, TheSocketIsClosedWhenNobodyReadsTheAnswer) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    ::shutdown(ends[0], SHUT_RD); // answers get EPIPE, requests still go through
    serve_control(Registry::get(), FileDescriptor(ends[1]));
    const std::string request = "{\"op\":\"methods\"}\n";
    ASSERT_EQ(::send(ends[0], request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
    EXPECT_TRUE(is_let_go(ends[0]));
    ::close(ends[0]);
}

} // namespace
} // namespace kvfold::preload
