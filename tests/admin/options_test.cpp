// Addresses and token files, as users write them.
#include "admin/fake_control.h"

#include <unistd.h>

#include <fstream>

namespace kvfold::admin::testing {
namespace {

TEST(Address, HostAndPort) {
    const std::vector<std::tuple<const char*, const char*, int>> good = {
        {"127.0.0.1:8089", "127.0.0.1", 8089},
        {"localhost:0", "localhost", 0},
        {"[::1]:65535", "::1", 65535},
        {"0.0.0.0:80", "0.0.0.0", 80},
    };
    for (const auto& [address, host, port] : good) {
        const auto options = parse_address(address);
        ASSERT_TRUE(options) << options.error().message;
        EXPECT_EQ(options->host, host);
        EXPECT_EQ(options->port, port);
        EXPECT_EQ(options->token, "");
    }
}

TEST(Address, WhatIsWrongIsSaid) {
    const std::vector<std::pair<const char*, const char*>> wrong = {
        {"", "no port"},
        {"8089", "no port"},
        {":8089", "no host"},
        {"[]:8089", "no host"},
        {"::1:8089", "brackets"},
        {"localhost:", "port is"},
        {"localhost:x", "port is"},
        {"localhost:80x", "port is"},
        {"localhost:-1", "port is"},
        {"localhost:-0", "port is"},
        {"local\nhost", "'local\\x0ahost'"},
        {"localhost:65536", "port is"},
        {"localhost: 80", "port is"},
    };
    for (const auto& [address, words] : wrong) {
        const auto options = parse_address(address);
        ASSERT_FALSE(options) << address;
        EXPECT_EQ(options.error().code, ErrorCode::invalid_argument);
        EXPECT_TRUE(contains(options.error().message, words)) << options.error().message;
    }
}

TEST(Address, OnlyThisMachineIsLoopback) {
    for (const char* own : {"localhost", "127.0.0.1", "127.8.9.1", "::1"})
        EXPECT_TRUE(is_loopback(own)) << own;
    for (const char* other : {"0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example", "128.0.0.1", ""})
        EXPECT_FALSE(is_loopback(other)) << other;
}

class TokenFile : public ::testing::Test {
  protected:
    void SetUp() override {
        path = std::filesystem::path(::testing::TempDir()) / ("kvfold_token_" + std::to_string(getpid()));
    }
    void TearDown() override { std::filesystem::remove(path); }

    Result<std::string> token_of(const std::string& text) {
        std::ofstream(path) << text;
        return read_token(path);
    }
    std::filesystem::path path;
};

TEST_F(TokenFile, TheFirstLineWithoutBlanksAround) {
    for (const char* text : {"secret", "secret\n", "  secret \t\r\nmore\n"}) {
        const auto token = token_of(text);
        ASSERT_TRUE(token) << token.error().message;
        EXPECT_EQ(*token, "secret");
    }
}

TEST_F(TokenFile, WhatIsNoTokenIsRefusedByTheFilesName) {
    for (const char* text : {"", "\nsecret\n", " \t\n", "two words\n", "gehe\xc3\xaemnis\n", "a\x01z\n"}) {
        const auto token = token_of(text);
        ASSERT_FALSE(token) << text;
        EXPECT_EQ(token.error().code, ErrorCode::invalid_argument);
        EXPECT_TRUE(contains(token.error().message, path.string())) << token.error().message;
    }
}

TEST_F(TokenFile, AMissingFileAndAFolderAreNamed) {
    const auto missing = read_token(path);
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code, ErrorCode::io);
    EXPECT_TRUE(contains(missing.error().message, "No such file")) << missing.error().message;
    const auto folder = read_token(path.parent_path());
    ASSERT_FALSE(folder);
    EXPECT_TRUE(contains(folder.error().message, "is a folder")) << folder.error().message;
}

} // namespace
} // namespace kvfold::admin::testing
