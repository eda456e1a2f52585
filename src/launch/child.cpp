#include "launch/child.h"

#include "base/format.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <spawn.h>
#include <sys/wait.h>

extern "C" char** environ;

namespace kvfold::launch {

namespace {

std::vector<char*> pointers(const std::vector<std::string>& words) {
    std::vector<char*> list;
    for (const std::string& word : words)
        list.push_back(const_cast<char*>(word.c_str())); // posix_spawn does not write to them
    list.push_back(nullptr);
    return list;
}

struct SpawnOptions {
    posix_spawnattr_t attributes;

    SpawnOptions() {
        posix_spawnattr_init(&attributes);
        // The handlers of kvfold (SIGINT, SIGTERM, ..) go with exec; what it ignores would not. A signal that
        // was ignored before kvfold started, such as SIGHUP under nohup, stays ignored.
        sigset_t ours, none;
        sigemptyset(&ours);
        sigemptyset(&none);
        for (const int signal : {SIGINT, SIGTERM, SIGCHLD, SIGCONT, SIGPIPE, SIGXFSZ})
            sigaddset(&ours, signal);
        posix_spawnattr_setsigdefault(&attributes, &ours);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    }
    ~SpawnOptions() { posix_spawnattr_destroy(&attributes); }
    SpawnOptions(const SpawnOptions&) = delete;
    SpawnOptions& operator=(const SpawnOptions&) = delete;
};

} // namespace

Result<std::vector<std::string>> program_environment(const ProgramPlan& plan) {
    const std::string library = plan.library.string();
    if (library.find_first_of(": ") != std::string::npos)
        return fail(ErrorCode::unsupported,
                    "{}: LD_PRELOAD takes no path with a blank or a colon; move kvfold to another folder",
                    library);
    const std::string settings = kvfold::format("{}=", kSettingsVariable);
    const char* const before = std::getenv(kLibraryPathBefore);
    const std::string library_path = kvfold::format("{}=", kLibraryPathVariable);
    const std::string path_before = kvfold::format("{}=", kLibraryPathBefore);
    std::vector<std::string> environment;
    const std::string libraries = kvfold::format("{}=", kLibrariesVariable);
    std::string preload = libraries;
    for (char** entry = environ; *entry; ++entry) {
        const std::string_view variable = *entry;
        if (variable.starts_with(libraries))
            preload = variable;
        else if (before && (variable.starts_with(library_path) || variable.starts_with(path_before)))
            continue;
        else if (!variable.starts_with(settings))
            environment.emplace_back(variable);
    }
    if (before && *before) environment.push_back(library_path + before);
    if (preload != libraries) preload += ':';
    environment.push_back(preload + library);
    environment.push_back(settings + to_json(plan.settings));
    return environment;
}

Result<pid_t> start_program(const ProgramPlan& plan) {
    KVFOLD_TRY(const std::vector<std::string> environment, program_environment(plan));
    const SpawnOptions options;
    pid_t pid = -1;
    const int refused = posix_spawn(&pid, plan.program.c_str(), nullptr, &options.attributes,
                                    pointers(plan.words).data(), pointers(environment).data());
    if (refused)
        return fail(ErrorCode::io, "{}: cannot be started: {}", plan.program.string(),
                    std::strerror(refused));
    return pid;
}

Result<ProgramEnd> wait_for_program(pid_t program, ForwardedSignals& signals,
                                    const std::function<void(int)>& heard) {
    const int status = signals.wait_and_forward(program, heard);
    if (status < 0) return fail(ErrorCode::io, "the program cannot be waited for: {}", std::strerror(errno));
    if (WIFSIGNALED(status)) return ProgramEnd{128 + WTERMSIG(status), WTERMSIG(status)};
    return ProgramEnd{WEXITSTATUS(status), 0};
}

} // namespace kvfold::launch
