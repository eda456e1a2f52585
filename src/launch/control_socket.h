// Where the processes of the program find kvfold: a socket in a folder that only this user can enter.
#pragma once

#include "base/file_descriptor.h"
#include "base/result.h"

#include <memory>
#include <optional>

namespace kvfold::launch {

class ControlSocket {
  public:
    // In the folder for temporary files; in /tmp where that one's path is too long for a socket.
    static Result<std::unique_ptr<ControlSocket>> open();

    ~ControlSocket(); // removes socket and folder; connections live on
    ControlSocket(const ControlSocket&) = delete;
    ControlSocket& operator=(const ControlSocket&) = delete;

    const std::string& path() const { return path_; } // absolute

    int listener() const { return listener_.get(); } // can be read from when somebody waits

    // A process that waits to be let in; of this user. Does not block.
    std::optional<FileDescriptor> accept();

  private:
    explicit ControlSocket(std::string folder) : folder_(std::move(folder)), path_(folder_ + "/control") {}

    const std::string folder_, path_;
    FileDescriptor listener_;
};

} // namespace kvfold::launch
