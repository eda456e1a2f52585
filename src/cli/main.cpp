// The kvfold command. Exit codes: 0 ok, 1 failed, 2 wrong usage, 130 interrupted; run and serve: the
// program's.
#include "base/format.h"
#include "cli/backends.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "model/llama_check.h"
#include "model/model.h"
#include "solve/kernels.h"

#include <ggml.h>

#include <csignal>

namespace {

using namespace kvfold;

enum ExitCode { kOk = 0, kFailed = 1, kUsage = 2, kInterrupted = 130 };

// Exactly one line, whatever a message holds.
void print_error(std::string message) {
    std::replace(message.begin(), message.end(), '\n', ' ');
    kvfold::print(stderr, "kvfold: {}\n", message);
}

int report_usage(const CLI::App& app, const std::string& first_word, const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success))
        return app.exit(error); // --help, --version
    const auto used = app.get_subcommands();
    if (used.empty() && !first_word.empty() && !first_word.starts_with('-')) {
        print_error(kvfold::format("no command '{}'; see kvfold --help", first_word));
        return kUsage;
    }
    const std::string command = used.empty() ? "kvfold" : "kvfold " + used.front()->get_name();
    print_error(kvfold::format("{}; see {} --help", error.what(), command));
    return kUsage;
}

int report(const Status& status) {
    const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
    if (!status && (status.error().code == ErrorCode::cancelled || cli::interrupted())) {
        print_error("interrupted");
        return kInterrupted;
    }
    if (!status)
        print_error(status.error().message);
    else if (!written)
        print_error("cannot write to standard output");
    return status && written ? kOk : kFailed;
}

int run(std::vector<std::string> arguments) {
    if (const auto kernels = chosen_kernels(); !kernels) return report(tl::unexpected(kernels.error()));
    CLI::App app("kvfold shrinks the KV cache of llama.cpp models by Attention Matching.", "kvfold");
    app.set_version_flag("--version",
                         kvfold::format("kvfold {} (llama.cpp {}, ggml {}, kernels {})", KVFOLD_VERSION,
                                        llama_version_name(), ggml_version(), cli::kernels_name()));
    app.require_subcommand(1);
    app.footer("Exit codes: 0 ok, 1 failed, 2 wrong usage, 130 interrupted (nothing is left half-written).");
    cli::Command chosen;
    cli::add_compact(app, chosen);
    cli::add_ask(app, chosen);
    cli::add_chat(app, chosen);
    cli::add_eval(app, chosen);
    cli::add_bench(app, chosen);
    cli::add_inspect(app, chosen);
    cli::add_methods(app, chosen);
    cli::add_advise(app, chosen);
    cli::add_doctor(app, chosen);
    cli::add_describe(app, chosen);
    const std::string first_word = arguments.empty() ? "" : arguments.front();
    const bool starts_program = first_word == "run" || first_word == "serve";
    cli::ProgramRun program;
    if (starts_program) program.words = cli::take_words_behind_dashes(arguments);
    cli::add_run(app, chosen, program);
    cli::add_serve(app, chosen, program);
    cli::accept_llama_spellings(arguments);
    std::reverse(arguments.begin(), arguments.end()); // CLI11 takes them from the back
    try {
        app.parse(std::move(arguments));
    } catch (const CLI::ParseError& error) {
        return report_usage(app, first_word, error);
    }
    silence_llama_log();
    if (!starts_program) cli::load_backends(); // the program loads its own
    const int code = report(chosen());
    return code == kOk ? program.exit_code : code;
}

} // namespace

int main(int argc, char** argv) {
    std::signal(SIGXFSZ, SIG_IGN); // a file-size limit is an error of write(), not the end
    cli::catch_interrupts();
    try {
        return run({argv + 1, argv + argc});
    } catch (const std::exception& error) {
        print_error(error.what());
        return kFailed;
    }
}
