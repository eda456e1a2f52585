// Stream sockets between processes of one machine, by path. All close on exec.
#pragma once

#include "base/file_descriptor.h"
#include "base/result.h"

#include <optional>
#include <sys/socket.h>

namespace kvfold {

// For send(): a peer that is gone is an error and no SIGPIPE.
#ifdef MSG_NOSIGNAL
inline constexpr int kNoSignal = MSG_NOSIGNAL;
#else // macOS, untested: quiet() has done it for the socket
inline constexpr int kNoSignal = 0;
#endif

inline constexpr size_t kLongestSocketPath = 100; // systems take 103 or 107 bytes

// Where the system has no MSG_NOSIGNAL: the same for all that is sent through this socket.
void quiet(int socket);

// Accepting does not block. As many connections wait as the system allows.
Result<FileDescriptor> listen_at(const std::string& path);

// Fails at once where nobody listens or too many wait already. Reading from it and writing to it blocks.
Result<FileDescriptor> connect_to(const std::string& path);

// A connection that waits; none: nobody waits, or no more files can be opened. Closed unseen are those of
// other users.
std::optional<FileDescriptor> accept_own(const FileDescriptor& listener);

} // namespace kvfold
