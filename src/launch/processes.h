// The processes of the program in which llama.cpp runs, each with a control channel of its own. A router
// starts one for each model.
#pragma once

#include "admin/control.h"
#include "launch/control_channel.h"
#include "launch/control_socket.h"

#include <memory>
#include <mutex>
#include <vector>

namespace kvfold::launch {

class Processes : public admin::Control {
  public:
    static Result<std::unique_ptr<Processes>>
    listen(std::chrono::milliseconds patience = ControlChannel::kPatience);
    ~Processes() override;

    // What the preload library connects to. Its first line is {"pid":7,"program":"llama-server"}.
    const std::string& path() const { return socket_->path(); }

    // "process" names who is asked. Without it that is the only one. Where there are several, questions go to
    // the one that came first, and what changes something is refused. Whoever waits to be let in is let in
    // before, and whoever has ended is forgotten. Requests to different processes do not wait for each other.
    Result<admin::Json> ask(const admin::Json& request) override;

  private:
    struct Process;
    using Members = std::vector<std::shared_ptr<Process>>;

    Processes(std::unique_ptr<ControlSocket> socket, std::chrono::milliseconds patience)
        : socket_(std::move(socket)), patience_(patience) {}

    Members present();
    bool greet(FileDescriptor& newcomer);
    tl::unexpected<Error> nobody();
    Result<admin::Json> ask_one(const Members& members, const admin::Json& request);
    Result<admin::Json> ask_all(const Members& members, bool whole);

    const std::unique_ptr<ControlSocket> socket_;
    const std::chrono::milliseconds patience_;
    std::mutex mutex_;                      // guards all below
    Members members_;                       // in the order in which they came
    std::vector<FileDescriptor> newcomers_; // that have not said yet who they are
    bool had_members_ = false;
};

} // namespace kvfold::launch
