// Who may ask. A loopback server needs no token, but any web page that the user visits can send requests to
// it: hence the checks of Host (a foreign name that resolves to 127.0.0.1) and Origin (a foreign page).
#pragma once

#include "admin/options.h"

#include <httplib.h>

#include <optional>

namespace kvfold::admin {

struct Refusal {
    int status;
    std::string message;
};

class Guard {
  public:
    explicit Guard(const AdminOptions& options);

    // is_public: the path needs no token.
    std::optional<Refusal> check(const httplib::Request& request, bool is_public) const;

  private:
    bool knows_host(std::string_view host_header) const;
    bool has_token(const httplib::Request& request) const;

    std::string host_;
    std::string token_;
    bool loopback_;
};

} // namespace kvfold::admin
