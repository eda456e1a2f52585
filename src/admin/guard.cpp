#include "admin/guard.h"

#include <array>
#include <strings.h>

namespace kvfold::admin {
namespace {

bool same_name(std::string_view a, std::string_view b) {
    return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

// "[::1]:8089" and "[::1]" give "[::1]"; "localhost:8089" gives "localhost".
std::string_view without_port(std::string_view host) {
    const size_t colon = host.rfind(':');
    const size_t bracket = host.rfind(']');
    if (colon == std::string_view::npos) return host;
    if (bracket != std::string_view::npos && colon < bracket) return host;
    return host.substr(0, colon);
}

// The time taken depends on what was given, not on how much of it is right.
bool same_secret(std::string_view given, std::string_view secret) {
    unsigned difference = given.size() == secret.size() ? 0 : 1;
    for (size_t i = 0; i < given.size(); ++i)
        difference |=
            static_cast<unsigned char>(given[i]) ^ static_cast<unsigned char>(secret[i % secret.size()]);
    return difference == 0;
}

} // namespace

Guard::Guard(const AdminOptions& options)
    : host_(options.host.find(':') == std::string::npos ? options.host : "[" + options.host + "]"),
      token_(options.token), loopback_(is_loopback(options.host)) {}

std::optional<Refusal> Guard::check(const httplib::Request& request, bool is_public) const {
    const std::string host = request.get_header_value("Host");
    if (loopback_ && !knows_host(host))
        return Refusal{403, "the Host header names another host; use " + host_ + " or localhost"};

    const std::string origin = request.get_header_value("Origin");
    const size_t scheme = origin.find("://");
    const bool own =
        scheme != std::string::npos && same_name(std::string_view(origin).substr(scheme + 3), host);
    if (request.has_header("Origin") && !own) return Refusal{403, "the request comes from another web page"};

    if (!is_public && !token_.empty() && !has_token(request))
        return Refusal{401, "the token is missing or wrong; send 'Authorization: Bearer TOKEN'"};
    return std::nullopt;
}

bool Guard::knows_host(std::string_view host_header) const {
    const std::string_view name = without_port(host_header);
    for (const std::string_view known : {std::string_view(host_), std::string_view("localhost"),
                                         std::string_view("127.0.0.1"), std::string_view("[::1]")})
        if (same_name(name, known)) return true;
    return false;
}

bool Guard::has_token(const httplib::Request& request) const {
    const std::string given = request.get_header_value("Authorization");
    constexpr std::string_view scheme = "Bearer ";
    return given.size() > scheme.size() &&
           same_name(std::string_view(given).substr(0, scheme.size()), scheme) &&
           same_secret(std::string_view(given).substr(scheme.size()), token_);
}

} // namespace kvfold::admin
