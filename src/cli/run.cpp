// kvfold run and kvfold serve: an unmodified program with the preload library in it.
#include "admin/admin_server.h"
#include "base/format.h"
#include "cli/commands.h"
#include "cli/description.h"
#include "cli/options.h"
#include "launch/activity.h"
#include "launch/child.h"
#include "launch/find_program.h"
#include "launch/loads_llama.h"
#include "launch/processes.h"

#include <csignal>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>

namespace kvfold::cli {

namespace {

struct RunOptions {
    launch::PreloadSettings settings;
    std::string admin, token_file;
    bool children = false;  // the program itself need not load llama.cpp
    bool is_server = false; // kvfold serve
};

bool folds(const launch::PreloadSettings& settings) {
    return settings.virtual_factor > 1 || settings.ratio.has_value();
}

// SIGINT ends llama-server; other programs may only be interrupted by it.
bool asks_to_end(int signal, const RunOptions& options) {
    return signal == SIGTERM || (signal == SIGINT && options.is_server);
}

// Nothing is started when one of these is wrong.
Result<admin::AdminOptions> admin_options(const RunOptions& options) {
    KVFOLD_TRY(admin::AdminOptions admin, admin::parse_address(options.admin));
    if (!options.token_file.empty()) {
        KVFOLD_TRY(admin.token, admin::read_token(options.token_file));
    }
    return admin;
}

void say_where(const admin::AdminOptions& options, int port) {
    const bool is_ipv6 = options.host.find(':') != std::string::npos;
    const std::string host = is_ipv6 ? '[' + options.host + ']' : options.host;
    kvfold::print(stderr, "kvfold: dashboard at http://{}:{}/\n", host, port);
}

// Shells tell of a crash, but this one's shell sees kvfold return.
void say_crash(const std::string& program, int signal) {
    const bool was_asked = signal == SIGINT || signal == SIGTERM || signal == SIGHUP || signal == SIGQUIT;
    if (signal != 0 && !was_asked && signal != SIGPIPE)
        kvfold::print(stderr, "kvfold: {} was ended by signal {} ({})\n", program, signal, strsignal(signal));
}

void say_inactive(const std::string& program) {
    kvfold::print(
        stderr,
        "kvfold: {0} runs without kvfold: it has file capabilities or another user's rights, with which the "
        "system drops preloaded libraries; take them away (setcap -r {0}, chmod u-s {0}), or run a copy\n",
        program);
}

// Null, with a line: the program can do without.
std::unique_ptr<launch::Processes> listen_for_stops() {
    auto processes = launch::Processes::listen();
    if (processes) return *std::move(processes);
    kvfold::print(stderr, "kvfold: {}; a stop may take as long as a fold\n", processes.error().message);
    return nullptr;
}

// REQUIRES: the program may run. Its exit code.
Result<int> run_to_the_end(launch::ProgramPlan plan, const RunOptions& options) {
    launch::ForwardedSignals signals;             // before the server's threads
    std::unique_ptr<launch::Processes> processes; // outlives the server
    std::unique_ptr<admin::AdminServer> server;
    if (!options.admin.empty()) {
        KVFOLD_TRY(const admin::AdminOptions admin, admin_options(options));
        KVFOLD_TRY(processes, launch::Processes::listen());
        KVFOLD_TRY(server, admin::AdminServer::start(admin, *processes));
        say_where(admin, server->port());
    } else if (folds(options.settings)) {
        processes = listen_for_stops();
    }
    if (processes) plan.settings.control = processes->path();
    // A Ctrl-C in the instant between this and the start reaches nobody: press it again.
    if (signals.asked_to_end()) return fail(ErrorCode::cancelled, "interrupted");
    KVFOLD_TRY(const pid_t program, launch::start_program(plan));
    std::optional<launch::ActivityWatch> watch;
    if (!options.children) // of children it cannot be known which are to have the library
        watch.emplace(program, plan.library, [&] { say_inactive(plan.words.front()); });
    std::jthread announcement; // beside the signals that may still come
    const auto heard = [&](int signal) {
        if (!processes || announcement.joinable() || !asks_to_end(signal, options)) return;
        announcement = std::jthread([&] { processes->announce_stop(); });
    };
    KVFOLD_TRY(const launch::ProgramEnd end, launch::wait_for_program(program, signals, heard));
    say_crash(plan.words.front(), end.signal);
    return end.code;
}

// words: argv of the program.
Status start(const std::filesystem::path& program, std::vector<std::string> words, const RunOptions& options,
             int& exit_code) {
    if (!options.children) KVFOLD_CHECK(launch::check_loads_llama(program));
    KVFOLD_TRY(const std::filesystem::path library, launch::find_preload_library());
    KVFOLD_TRY(exit_code, run_to_the_end({program, std::move(words), library, options.settings}, options));
    return {};
}

Status run_program(const RunOptions& options, ProgramRun& run) {
    KVFOLD_TRY(const std::filesystem::path program, launch::find_program(run.words.front()));
    return start(program, run.words, options, run.exit_code);
}

Status run_server(const RunOptions& options, ProgramRun& run) {
    KVFOLD_TRY(const std::filesystem::path program, launch::find_llama_server());
    std::vector<std::string> words = {program.string()};
    words.insert(words.end(), run.words.begin(), run.words.end());
    return start(program, std::move(words), options, run.exit_code);
}

CLI::Validator address_check() {
    const auto check = [](const std::string& address) {
        const auto parsed = admin::parse_address(address);
        return parsed ? std::string() : parsed.error().message;
    };
    return {check, "HOST:PORT"};
}

CLI::Validator log_check() {
    const auto check = [](const std::string& name) {
        for (const std::string_view level : launch::kLogLevels)
            if (name == level) return std::string();
        return kvfold::format("no log level '{}'; there are {}", name, joined(launch::kLogLevels, " "));
    };
    return {check, choices_text(joined(launch::kLogLevels, ","))};
}

void add_run_options(CLI::App& command, RunOptions& options) {
    launch::PreloadSettings& settings = options.settings;
    command
        .add_option("--virtual", settings.virtual_factor,
                    "tell the program of a context N times as large as its cells; default: 1")
        ->check(CLI::Range(1, launch::kLargestVirtual))
        ->option_text("N");
    command
        .add_option("--ratio", settings.ratio, "fold sequences that grow full: cells before / cells after")
        ->check(limit_check(limits::ratio))
        ->option_text("R");
    command.add_option("--method", settings.method, "see kvfold methods")
        ->check(method_check())
        ->option_text("NAME");
    command
        .add_option(
            "--solve-on", settings.solve_on,
            "where folds are solved: auto: each layer on the device that holds its cache; cpu; device")
        ->check(solve_on_check())
        ->option_text("WHERE");
    command.add_option("--high-water", settings.high_water, "share of the cells in use that starts a fold")
        ->check(limit_check(limits::high_water))
        ->option_text("X");
    command.add_option("--keep-first", settings.keep_first, "first cells that are never folded")
        ->check(limit_check(limits::keep_first))
        ->option_text("N");
    command.add_option("--keep-last", settings.keep_last, "newest cells that are kept as they are")
        ->check(limit_check(limits::keep_last))
        ->option_text("N");
    command
        .add_option("--archive", settings.archive,
                    "MiB of memory for the cells that folds replace, to take them back; 0: none; default: a "
                    "quarter of the free memory")
        ->check(limit_check(limits::archive))
        ->option_text("MIB");
    command
        .add_option(
            "--archive-dir", settings.archive_dir,
            "where the program saves a slot file its archive is written too, under a name made of it, and read "
            "again with it")
        ->check(CLI::ExistingDirectory)
        ->transform([](const std::string& given) {
            return given.empty() ? given : std::filesystem::absolute(given).string();
        })
        ->option_text("DIR");
    command
        .add_option(
            "--recall", settings.recall,
            "cells of each head that a question, and then the answer, takes out of the archive; default: 16")
        ->check(limit_check(limits::recall))
        ->option_text("N");
    auto* admin = command.add_option("--admin", options.admin,
                                     "serve the dashboard there, for example 127.0.0.1:8089; port 0: any");
    admin->check(address_check())->option_text("HOST:PORT");
    command.add_option("--admin-token-file", options.token_file, "its first line is the dashboard's token")
        ->needs(admin)
        ->option_text("FILE");
    command.add_option("--log", settings.log, "off, error, warn, info or debug; default: info")
        ->check(log_check())
        ->option_text("LEVEL");
}

constexpr const char* kFooter =
    "Without options kvfold only observes. What stands behind -- is the program's, untouched; signals go to "
    "it, and\n"
    "its exit code (128 + signal when one ended it) is kvfold's. 1: kvfold could not start it.";

} // namespace

void add_run(CLI::App& app, Command& chosen, ProgramRun& run) {
    auto options = std::make_shared<RunOptions>();
    CLI::App* command = app.add_subcommand("run", "Run a program that uses llama.cpp, compacting its cache");
    command->footer(kvfold::format("kvfold run [OPTIONS] -- PROGRAM [ARGUMENTS...]\n{}", kFooter));
    add_run_options(*command, *options);
    command->add_flag("--children", options->children,
                      "PROGRAM need not load llama.cpp: those that it starts are compacted");
    command->callback([options, &chosen, &run] {
        if (run.words.empty()) throw CLI::RequiredError("-- PROGRAM");
        chosen = [options, &run] { return run_program(*options, run); };
    });
}

void add_serve(CLI::App& app, Command& chosen, ProgramRun& run) {
    auto options = std::make_shared<RunOptions>();
    options->is_server = true;
    CLI::App* command = app.add_subcommand("serve", "Run llama-server, compacting its cache");
    command->footer(kvfold::format(
        "kvfold serve [OPTIONS] -- LLAMA-SERVER-ARGUMENTS...\n{}\n"
        "llama-server is the one in $KVFOLD_LLAMA_PREFIX/bin, else of the llama.cpp that kvfold was\n"
        "built against, else in PATH.",
        kFooter));
    add_run_options(*command, *options);
    command->callback(
        [options, &chosen, &run] { chosen = [options, &run] { return run_server(*options, run); }; });
}

} // namespace kvfold::cli
