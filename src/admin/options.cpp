#include "admin/options.h"

#include "base/printable.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>

namespace kvfold::admin {
namespace {

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view blanks = " \t\r\n";
    const size_t begin = text.find_first_not_of(blanks);
    if (begin == std::string_view::npos) return {};
    return text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

} // namespace

Result<AdminOptions> parse_address(std::string_view address) {
    const auto wrong = [&](std::string_view why) {
        return fail(ErrorCode::invalid_argument, "admin address '{}': {}; give HOST:PORT, as 127.0.0.1:8089",
                    printable(address), why);
    };
    const size_t colon = address.rfind(':');
    if (colon == std::string_view::npos) return wrong("there is no port");

    std::string_view host = address.substr(0, colon);
    const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
    if (bracketed) host = host.substr(1, host.size() - 2);
    if (host.empty()) return wrong("there is no host");
    if (!bracketed && host.find(':') != std::string_view::npos)
        return wrong("an IPv6 address stands in brackets, as [::1]:8089");

    const std::string_view digits = address.substr(colon + 1);
    uint16_t port = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    if (error != std::errc() || end != digits.data() + digits.size())
        return wrong("the port is a number from 0 to 65535");
    AdminOptions options;
    options.host = host;
    options.port = port;
    return options;
}

Result<std::string> read_token(const std::filesystem::path& path) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored))
        return fail(ErrorCode::io, "{}: is a folder; name a file with the token in its first line",
                    path.string());
    errno = 0;
    std::ifstream file(path);
    if (!file) return fail(ErrorCode::io, "{}: {}", path.string(), std::strerror(errno));

    std::string line;
    std::getline(file, line);
    const std::string token(trimmed(line));
    if (token.empty())
        return fail(ErrorCode::invalid_argument, "{}: the first line is empty; put the token there",
                    path.string());
    const auto travels = [](char c) { return c > ' ' && c <= '~'; }; // in an HTTP header
    if (!std::all_of(token.begin(), token.end(), travels))
        return fail(ErrorCode::invalid_argument,
                    "{}: a token has no blanks and only ASCII letters, digits and signs", path.string());
    return token;
}

bool is_loopback(const std::string& host) {
    if (host == "localhost" || host == "::1") return true;
    in_addr address;
    return inet_pton(AF_INET, host.c_str(), &address) == 1 && (ntohl(address.s_addr) >> 24) == 127;
}

} // namespace kvfold::admin
