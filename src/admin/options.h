// Where the admin server listens and who may use it.
#pragma once

#include "base/result.h"

#include <filesystem>
#include <string>
#include <string_view>

namespace kvfold::admin {

struct AdminOptions {
    std::string host = "127.0.0.1"; // a name or an address, IPv6 without brackets
    int port = 8089;                // 0: the system chooses
    std::string token = {};         // empty: none; needed unless host is loopback
};

// "HOST:PORT", as in 127.0.0.1:8089, localhost:0 or [::1]:8089.
Result<AdminOptions> parse_address(std::string_view address);

// The first line of the file, without the blanks around it.
Result<std::string> read_token(const std::filesystem::path& path);

// Only this machine can connect: localhost, 127.x.x.x or ::1.
bool is_loopback(const std::string& host);

} // namespace kvfold::admin
