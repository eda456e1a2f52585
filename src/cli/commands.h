// The subcommands. Each registers its options; when the command line asks for it, it puts its work in
// `chosen`.
#pragma once

#include "base/result.h"

#include <CLI/CLI.hpp>

#include <functional>

namespace kvfold::cli {

using Command = std::function<Status()>;

// For the commands that start another program.
struct ProgramRun {
    std::vector<std::string> words; // what stood behind "--"
    int exit_code = 0;              // the program's, once the command has succeeded
};

void add_compact(CLI::App& app, Command& chosen);
void add_ask(CLI::App& app, Command& chosen);
void add_chat(CLI::App& app, Command& chosen);
void add_eval(CLI::App& app, Command& chosen);
void add_bench(CLI::App& app, Command& chosen);
void add_doctor(CLI::App& app, Command& chosen);
void add_inspect(CLI::App& app, Command& chosen);
void add_methods(CLI::App& app, Command& chosen);
void add_advise(CLI::App& app, Command& chosen);

// Describes what `app` has when the command runs. REQUIRES: `app` outlives `chosen`.
void add_describe(CLI::App& app, Command& chosen);

// REQUIRES: `run` outlives `chosen`.
void add_run(CLI::App& app, Command& chosen, ProgramRun& run);
void add_serve(CLI::App& app, Command& chosen, ProgramRun& run);

} // namespace kvfold::cli
