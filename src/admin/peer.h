// Whether the client of a request is still there. cpp-httplib 0.11 has no question for it and hands no socket
// to a handler, so the socket is found by its two ends.
#pragma once

#include <httplib.h>

namespace kvfold::admin {

class Peer {
  public:
    // REQUIRES: the request is being handled for as long as this object is asked.
    explicit Peer(const httplib::Request& request);

    // The client has closed or broken the connection. False when the socket was not found.
    bool is_gone() const;

  private:
    int socket_ = -1;
};

} // namespace kvfold::admin
