#include "launch/control_socket.h"

#include "base/unix_socket.h"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

namespace kvfold::launch {
namespace {

TEST(ControlSocket, NoEndGoesToOtherPrograms) {
    const auto socket = ControlSocket::open();
    ASSERT_TRUE(socket) << socket.error().message;
    const auto theirs = connect_to((*socket)->path());
    ASSERT_TRUE(theirs) << theirs.error().message;
    const auto ours = (*socket)->accept();
    ASSERT_TRUE(ours);
    EXPECT_TRUE(fcntl(ours->get(), F_GETFD) & FD_CLOEXEC);
    EXPECT_TRUE(fcntl(theirs->get(), F_GETFD) & FD_CLOEXEC);
    EXPECT_FALSE((*socket)->accept()); // does not wait
}

// The folder keeps other users out; where it did not, the socket would.
TEST(ControlSocket, AnotherUserIsNotLetInAndNotTalkedTo) {
    if (geteuid() != 0) GTEST_SKIP() << "only root can be another user";
    const auto listening = ControlSocket::open();
    ASSERT_TRUE(listening) << listening.error().message;
    const std::filesystem::path path = (*listening)->path();
    ASSERT_EQ(chmod(path.parent_path().c_str(), 0755), 0);
    ASSERT_EQ(chmod(path.c_str(), 0777), 0);
    const auto connect_as = [&](uid_t user) {
        ASSERT_EQ(seteuid(user), 0);
        const auto theirs = connect_to(path);
        ASSERT_EQ(seteuid(0), 0);
        EXPECT_EQ(theirs.has_value(), user == 0); // either side looks
        EXPECT_EQ((*listening)->accept().has_value(), user == 0);
    };
    connect_as(65534);
    connect_as(0);
}

TEST(UnixSocket, PathsThatNoSocketCanHaveAreRefused) {
    for (const std::string& path : {std::string(), "/" + std::string(kLongestSocketPath, 'x')}) {
        EXPECT_EQ(listen_at(path).error().code, ErrorCode::invalid_argument);
        EXPECT_EQ(connect_to(path).error().code, ErrorCode::invalid_argument);
    }
}

} // namespace
} // namespace kvfold::launch
