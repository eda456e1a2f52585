// The processes of the program in which llama.cpp runs, each with a control channel of its own, and a second
// one, its pulse, that no call into llama.cpp holds up. A router starts one for each model.
#pragma once

#include "admin/control.h"
#include "launch/control_channel.h"
#include "launch/control_socket.h"

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace kvfold::launch {

class Processes : public admin::Control {
  public:
    static Result<std::unique_ptr<Processes>>
    listen(std::chrono::milliseconds patience = ControlChannel::kPatience);
    ~Processes() override;

    // What the preload library connects to, twice. Its first line is
    // {"pid":7,"program":"llama-server","channel":"pulse"}, and then the same with "control". It is let in
    // when it comes, whether or not anybody asks.
    const std::string& path() const { return socket_->path(); }

    // "process" names who is asked. Without it that is the only one. Where there are several, questions go to
    // the one that came first, and what changes something is refused. Whoever has ended is forgotten.
    // Requests to different processes do not wait for each other. The list of processes is there at once.
    Result<Json> ask(const Json& request) override;

    // All hear that the program is told to stop: none of them waits for a fold any more.
    void announce_stop();

  private:
    struct Process;
    using Members = std::vector<std::shared_ptr<Process>>;

    Processes(std::unique_ptr<ControlSocket> socket, std::chrono::milliseconds patience)
        : socket_(std::move(socket)), patience_(patience) {}

    Members present();
    bool greet(FileDescriptor& newcomer);
    tl::unexpected<Error> nobody();
    Result<Json> ask_one(const Members& members, const Json& request);
    Json ask_each(const Members& members, const std::function<Json(Process&)>& question);
    void wait_at_the_door(const FileDescriptor& left);

    const std::unique_ptr<ControlSocket> socket_;
    const std::chrono::milliseconds patience_;
    std::mutex mutex_;                      // guards all below
    Members members_;                       // in the order in which they came
    std::vector<FileDescriptor> newcomers_; // that have not said yet who they are
    std::map<int, FileDescriptor> pulses_;  // of processes whose channel is yet to come
    bool had_members_ = false;

    FileDescriptor leave_; // closed: whoever waits at the door goes home
    std::jthread door_;    // last: it uses all above
};

} // namespace kvfold::launch
