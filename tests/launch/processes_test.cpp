#include "launch/processes.h"

#include "base/unix_socket.h"
#include "launch/peer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <future>
#include <map>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

namespace kvfold::launch {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kSoon{100};
constexpr milliseconds kNever{20000}; // never reached in a test that passes

Json state_of(const std::string& model) {
    return {{"context",
             {{"file", model},
              {"model", "llama 1B"},
              {"cells", 512},
              {"virtual_cells", 2048},
              {"managed", true}}}};
}

// Says who was asked what; of its state, its model.
std::string answer_as(const std::string& name, const Json& request) {
    Json answer = {{"asked", request}};
    if (request["op"] == "state" || request["op"] == "summary") answer = state_of(name);
    if (request["op"] == "summary") answer["busy_s"] = 2.5;
    if (request["op"] == "compact") answer = {{"job", 7}};
    answer["id"] = request["id"];
    answer["by"] = name;
    return to_text(answer) + "\n";
}

class ProcessesTest : public testing::Test {
  protected:
    void SetUp() override { listen(kNever); }

    void listen(milliseconds patience) {
        auto listening = Processes::listen(patience);
        ASSERT_TRUE(listening) << listening.error().message;
        processes = *std::move(listening);
    }

    // Connected, and has said nothing yet.
    std::unique_ptr<Peer> stranger() const {
        auto socket = connect_to(processes->path());
        EXPECT_TRUE(socket) << socket.error().message;
        return std::make_unique<Peer>(*std::move(socket));
    }
    std::unique_ptr<Peer> channel(int pid, const char* which) const {
        auto peer = stranger();
        peer->write(to_text(Json{{"pid", pid}, {"program", "llama-server"}, {"channel", which}}) + "\n");
        return peer;
    }
    // A process whose channel says nothing yet. Its pulse is in `pulses`, and does not either.
    std::unique_ptr<Peer> silent(int pid) {
        pulses[pid] = channel(pid, "pulse");
        return channel(pid, "control");
    }
    std::unique_ptr<Peer> process(int pid, const std::string& name) {
        auto peer = silent(pid);
        const auto answer = [name](const Json& request) { return answer_as(name, request); };
        pulses[pid]->serve(answer);
        peer->serve(answer);
        return peer;
    }

    Json ask(const Json& request) const {
        const auto answer = processes->ask(request);
        EXPECT_TRUE(answer) << answer.error().message;
        return answer.value_or(Json::object());
    }
    std::string refusal(const Json& request, int code) const {
        const Json answer = ask(request);
        EXPECT_EQ(answer.at("error").at("code"), code) << answer;
        return answer.at("error").at("message");
    }
    std::vector<int> pids() const {
        std::vector<int> found;
        const Json list = ask({{"op", "processes"}});
        for (const Json& one : list.at("processes"))
            found.push_back(one.at("pid"));
        return found;
    }

    std::unique_ptr<Processes> processes;
    std::map<int, std::unique_ptr<Peer>> pulses;
};

TEST_F(ProcessesTest, BeforeAnyConnectsTheReasonIsSaidAndTheListIsEmpty) {
    for (const char* op : {"state", "states", "compact"}) {
        const auto answer = processes->ask({{"op", op}});
        ASSERT_FALSE(answer) << op;
        EXPECT_NE(answer.error().message.find("no process has loaded llama.cpp yet"), std::string::npos);
    }
    EXPECT_EQ(ask({{"op", "processes"}}), valid_json(R"({"processes":[]})"));
}

std::chrono::nanoseconds processor_time() {
    timespec now;
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

// All file descriptors but those that are there; the former limit comes back.
class NoFileDescriptors {
  public:
    NoFileDescriptors() {
        ::getrlimit(RLIMIT_NOFILE, &before_);
        taken_.emplace_back(::dup(STDERR_FILENO));
        const rlimit few = {static_cast<rlim_t>(taken_.front().get()) + 1, before_.rlim_max};
        ::setrlimit(RLIMIT_NOFILE, &few);
        for (int fd; (fd = ::dup(STDERR_FILENO)) >= 0;)
            taken_.emplace_back(fd);
    }
    ~NoFileDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

  private:
    rlimit before_;
    std::vector<FileDescriptor> taken_;
};

// Who waits at the door meanwhile must not cost a processor of its own.
TEST_F(ProcessesTest, WhoComesWhileThereIsNoFileDescriptorIsLetInLater) {
    FileDescriptor socket(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    processes->path().copy(address.sun_path, sizeof(address.sun_path) - 1);
    const auto* at = reinterpret_cast<const sockaddr*>(&address);
    {
        const NoFileDescriptors none;
        ASSERT_EQ(::connect(socket.get(), at, sizeof(address)), 0) << std::strerror(errno);
        const auto begin = processor_time();
        std::this_thread::sleep_for(3 * kSoon);
        EXPECT_LT(processor_time() - begin, kSoon);
    }
    pulses[7] = std::make_unique<Peer>(std::move(socket));
    pulses[7]->write(R"({"pid":7,"program":"llama-server","channel":"pulse"})"
                     "\n");
    const auto control = channel(7, "control");
    EXPECT_EQ(pids(), std::vector{7});
}

TEST_F(ProcessesTest, TheOnlyOneIsAskedWithoutItsName) {
    const auto one = process(7, "one");
    EXPECT_EQ(ask({{"op", "state"}}).at("by"), "one");
    EXPECT_EQ(ask({{"op", "policy"}, {"ratio", 4}}).at("asked").at("ratio"), 4);
    EXPECT_EQ(ask({{"op", "state"}, {"process", 7}}).at("by"), "one");
}

TEST_F(ProcessesTest, TheListNamesEachWithItsModel) {
    const auto one = process(7, "one"), two = process(9, "two");
    EXPECT_EQ(ask({{"op", "processes"}}), valid_json(R"({"processes":[
        {"pid":7,"program":"llama-server","file":"one","model":"llama 1B","cells":512,"virtual_cells":2048,"managed":true,
         "answers":true,"busy_s":2.5},
        {"pid":9,"program":"llama-server","file":"two","model":"llama 1B","cells":512,"virtual_cells":2048,"managed":true,
         "answers":true,"busy_s":2.5}]})"));
    const Json states = ask({{"op", "states"}}).at("processes");
    EXPECT_EQ(states.at(1).at("pid"), 9);
    EXPECT_EQ(states.at(1).at("state").at("by"), "two");
}

TEST_F(ProcessesTest, OddAnswersAreListedWithoutWhatIsOdd) {
    const auto one = silent(7);
    pulses[7]->serve([](const Json& request) {
        const Json context = {{"model", 5}, {"cells", "all"}, {"managed", 1}};
        return to_text(Json{{"id", request["id"]}, {"context", context}, {"busy_s", "long"}}) + "\n";
    });
    EXPECT_EQ(ask({{"op", "processes"}}), valid_json(R"({"processes":[
        {"pid":7,"program":"llama-server","file":"","model":"","cells":0,"virtual_cells":0,"managed":false,
         "answers":true,"busy_s":0.0}]})"));
}

TEST_F(ProcessesTest, RequestsReachTheOneThatTheyName) {
    const auto one = process(7, "one"), two = process(9, "two");
    for (const char* op : {"state", "methods", "policy", "job"}) {
        EXPECT_EQ(ask({{"op", op}, {"process", 7}}).at("by"), "one") << op;
        EXPECT_EQ(ask({{"op", op}, {"process", 9}}).at("by"), "two") << op;
    }
    EXPECT_FALSE(ask({{"op", "policy"}, {"process", 9}}).at("asked").contains("process"));
    EXPECT_EQ(refusal({{"op", "state"}, {"process", 8}}, 404),
              "no process 8; there are 7 (llama-server), 9 (llama-server)");
}

TEST_F(ProcessesTest, AJobComesWithItsProcess) {
    const auto one = process(7, "one"), two = process(9, "two");
    EXPECT_EQ(ask({{"op", "compact"}, {"process", 9}}).at("process"), 9);
    const auto ended = [&] {
        const auto peer = process(11, "three");
        return ask({{"op", "compact"}, {"process", 11}}).at("process");
    }();
    EXPECT_EQ(ended, 11);
}

TEST_F(ProcessesTest, AmongSeveralQuestionsGoToTheOldestAndTheRestIsRefused) {
    const auto two = process(9, "two");
    ask({{"op", "processes"}});
    const auto one = process(7, "one");
    for (const char* op : {"state", "methods"})
        EXPECT_EQ(ask({{"op", op}}).at("by"), "two") << op;
    ask({{"op", "processes"}}); // learns the models
    for (const char* op : {"compact", "policy", "job"}) {
        const std::string why = refusal({{"op", op}}, 400);
        EXPECT_EQ(why, "which process? There are 9 (two), 7 (one); give \"process\"") << op;
    }
}

TEST_F(ProcessesTest, OneThatEndsIsForgottenAndTheOthersGoOn) {
    auto one = process(7, "one");
    const auto two = process(9, "two");
    EXPECT_EQ(pids(), (std::vector{7, 9}));
    one->write("{\"late\":1}\n"); // what it said last does not keep it
    one->hang_up();
    EXPECT_EQ(pids(), std::vector{9});
    EXPECT_EQ(ask({{"op", "policy"}}).at("by"), "two");
    EXPECT_EQ(refusal({{"op", "state"}, {"process", 7}}, 404), "no process 7; there are 9 (two)");
}

TEST_F(ProcessesTest, WhenAllHaveEndedThatIsSaid) {
    process(7, "one"); // gone before it was let in
    const auto answer = processes->ask({{"op", "state"}});
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().message, "the program has no process with llama.cpp in it any more");
    EXPECT_TRUE(pids().empty());
}

TEST_F(ProcessesTest, OneThatIsBusyIsListedAndDoesNotKeepTheOthers) {
    const auto busy = silent(7);
    pulses[7]->serve([](const Json& request) { return answer_as("one", request); });
    const auto two = process(9, "two");
    auto waiting = std::async(std::launch::async, [&] {
        return processes->ask({{"op", "state"}, {"process", 7}});
    });
    const Json request = busy->next_request();
    EXPECT_EQ(ask({{"op", "state"}, {"process", 9}}).at("by"), "two");
    EXPECT_EQ(waiting.wait_for(milliseconds(0)), std::future_status::timeout);
    const Json list = ask({{"op", "processes"}}).at("processes");
    EXPECT_EQ(list.at(0).at("file"), "one");
    EXPECT_EQ(list.at(0).at("answers"), true);
    EXPECT_EQ(list.at(1).at("file"), "two");
    busy->write(answer_as("one", request));
    EXPECT_EQ(waiting.get()->at("by"), "one");
}

TEST_F(ProcessesTest, OneThatDoesNotAnswerIsListedAsItWasKnown) {
    listen(kSoon);
    const auto slow = silent(7);
    std::atomic<bool> mute = false;
    const auto answer = [&](const Json& request) { return mute ? std::string() : answer_as("one", request); };
    pulses[7]->serve(answer);
    slow->serve(answer);
    Json list = ask({{"op", "processes"}}).at("processes");
    for (int tries = 0; list.at(0).at("file") != "one" && tries < 100; ++tries) // a slow machine
        list = ask({{"op", "processes"}}).at("processes");
    mute = true;
    list = ask({{"op", "processes"}}).at("processes");
    EXPECT_EQ(list.at(0).at("file"), "one");
    EXPECT_EQ(list.at(0).at("answers"), false);
    const Json states = ask({{"op", "states"}}).at("processes");
    EXPECT_EQ(states.at(0).at("file"), "one");
    EXPECT_FALSE(states.at(0).contains("state"));
}

TEST_F(ProcessesTest, AStopIsAnnouncedToAllByTheirPulses) {
    const auto one = silent(7), two = silent(9); // busy, both of them
    auto announcing = std::async(std::launch::async, [&] { processes->announce_stop(); });
    for (const int pid : {7, 9}) {
        const Json heard = pulses[pid]->next_request();
        EXPECT_EQ(heard.at("op"), "stop") << pid;
        pulses[pid]->write(echo(heard));
    }
}

// Closed by kvfold; false after ten seconds.
bool is_sent_away(const Peer& peer) {
    pollfd wanted = {peer.socket(), 0, 0}; // POLLHUP comes unasked
    return poll(&wanted, 1, 10000) == 1 && (wanted.revents & POLLHUP) != 0;
}

TEST_F(ProcessesTest, WhoeverComesIsHeardThoughNobodyAsks) {
    const auto mute = stranger(), wrong = stranger();
    wrong->write("nobody\n");
    EXPECT_TRUE(is_sent_away(*wrong));
    mute->write("nobody ei");
    mute->write("ther\n");
    EXPECT_TRUE(is_sent_away(*mute));
}

TEST_F(ProcessesTest, AChannelWithoutAPulseIsNoProcess) {
    const auto lame = channel(7, "control");
    EXPECT_TRUE(is_sent_away(*lame));
    EXPECT_TRUE(pids().empty());
    const auto beating = channel(7, "pulse"); // a process still to come
    EXPECT_TRUE(pids().empty());
    const auto one = process(7, "one");
    EXPECT_EQ(pids(), std::vector{7});
}

TEST_F(ProcessesTest, NewcomersThatDoNotSayWhoTheyAreAreNoProcesses) {
    const auto mute = stranger();
    std::vector<std::unique_ptr<Peer>> wrong;
    for (const char* line :
         {"", "7", "[]", "{}", R"({"pid":7})", R"({"program":"a"})",
          R"({"pid":"7","program":"a","channel":"pulse"})", R"({"pid":0,"program":"a","channel":"pulse"})",
          R"({"pid":-7,"program":"a","channel":"pulse"})",
          R"({"pid":2147483648,"program":"a","channel":"pulse"})",
          R"({"pid":7.5,"program":"a","channel":"pulse"})", R"({"pid":7,"program":5,"channel":"pulse"})",
          R"({"pid":7,"program":"a")", R"({"pid":7,"program":"a"})",
          R"({"pid":7,"program":"a","channel":"c"})", "\x01\xff"}) {
        wrong.push_back(stranger());
        wrong.back()->write(std::string(line) + "\n");
    }
    wrong.push_back(stranger());
    wrong.back()->write(R"({"pid":7,"program":")" + std::string(5000, 'a') + "\"}\n");
    EXPECT_TRUE(pids().empty());
    for (const auto& peer : wrong)
        EXPECT_EQ(peer->read_line(), ""); // closed
    const auto one = process(7, "one");
    EXPECT_EQ(pids(), std::vector{7});
    const auto pulse = channel(8, "pulse");
    mute->write(R"({"pid":8,)"); // in pieces
    EXPECT_EQ(pids(), std::vector{7});
    mute->write(R"("program":"llama-server","channel":"control"})"
                "\n");
    mute->serve(echo);
    EXPECT_EQ(pids(), (std::vector{7, 8}));
}

TEST_F(ProcessesTest, ManyThatSayNothingDoNotKeepOthersOut) {
    std::vector<std::unique_ptr<Peer>> mute;
    for (int i = 0; i < 200; ++i)
        mute.push_back(stranger());
    const auto one = process(7, "one");
    EXPECT_EQ(pids(), std::vector{7});
    EXPECT_EQ(mute.front()->read_line(), ""); // the first ones were sent away
}

TEST_F(ProcessesTest, AProcessThatComesAgainReplacesItself) {
    const auto before = process(7, "before");
    EXPECT_EQ(ask({{"op", "state"}}).at("by"), "before");
    const auto after = process(7, "after");
    EXPECT_EQ(pids(), std::vector{7});
    EXPECT_EQ(ask({{"op", "state"}}).at("by"), "after");
}

TEST_F(ProcessesTest, TheSocketIsThisUsersAloneAndGoesWithIt) {
    const std::filesystem::path path = processes->path();
    struct stat folder;
    ASSERT_EQ(stat(path.parent_path().c_str(), &folder), 0);
    EXPECT_EQ(folder.st_mode & 0777, 0700u);
    EXPECT_EQ(folder.st_uid, geteuid());
    processes.reset();
    EXPECT_FALSE(std::filesystem::exists(path.parent_path()));
    const auto late = connect_to(path);
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().code, ErrorCode::io);
}

} // namespace
} // namespace kvfold::launch
