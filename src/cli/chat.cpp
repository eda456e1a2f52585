#include "base/format.h"
#include "base/free_memory.h"
#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "engine/archive_file.h"

#include <cerrno>
#include <iostream>
#include <memory>
#include <sstream>

namespace kvfold::cli {

namespace {

struct ChatOptions {
    ModelOptions model;
    SampleOptions sample;
    std::string state, archive;
    size_t recall = limits::kUsualRecall;
};

constexpr uint32_t kFreeCells = 4096; // of a context that the user gives no size for
constexpr double kNearlyFull = 0.85;  // share of the context in use from which compacting is suggested

std::string help() {
    return kvfold::format(
        "/compact [R [METHOD]]  shrink the cache R times ({:g}), see kvfold methods\n"
        "/unfold                take back what was folded, as far as it is kept and has room\n"
        "/stats                 tokens, cells and bytes of the cache\n"
        "/save FILE             write the cache as a slot file\n"
        "/archive FILE          write what was folded, for chat --archive with a saved cache\n"
        "/load FILE             replace the cache by that of a slot file\n"
        "/help                  this text\n"
        "/quit                  leave; so does the end of the input\n"
        "Ctrl-C stops an answer or a compaction; at the prompt it leaves.\n",
        Budget().ratio);
}

class Chat {
  public:
    Chat(const ChatOptions& options, const LoadedModel& model, const Keeping& keeping, Session session)
        : options_(options), model_(model), keeping_(keeping), session_(std::move(session)) {}

    // Errors are told and the chat goes on: only the end of the input and Ctrl-C at the prompt end it.
    Status run() {
        const bool asks = is_terminal(stdin) && is_terminal(stdout);
        if (asks) kvfold::print(stdout, "{}; /help lists the commands\n", model_.name);
        for (std::string line;;) {
            if (asks) kvfold::print(stdout, "{} ", bold(stdout, ">"));
            std::fflush(stdout);
            if (!std::getline(std::cin, line)) break;
            if (line == "/quit" || line == "/exit") return {};
            const Status status = line.starts_with('/') ? obey(line) : reply(line);
            if (!status && status.error().code != ErrorCode::cancelled)
                kvfold::print(stderr, "kvfold: {}\n", status.error().message);
            if (interrupted()) kvfold::print(stderr, "(stopped)\n");
            forget_interrupt();
        }
        if (interrupted()) {
            if (asks) kvfold::print(stdout, "\n");
            return fail(ErrorCode::cancelled, "interrupted");
        }
        return {};
    }

  private:
    Status reply(const std::string& line) {
        if (line.find_first_not_of(" \t\r") == std::string::npos) return {};
        const Result<Stop> answered = answer(session_, line, options_.sample);
        if (!answered && answered.error().code == ErrorCode::invalid_argument)
            return fail(ErrorCode::invalid_argument, "{}; /compact makes room, or start with a larger -c",
                        answered.error().message);
        KVFOLD_TRY(const Stop stop, answered);
        if (stop == Stop::interrupted) return {};
        const double used = static_cast<double>(session_.cells()) / llama_n_ctx(session_.context());
        if (stop == Stop::context_full || used >= kNearlyFull)
            kvfold::print(stderr, "({}: {} of {} cells; /compact makes room)\n",
                          stop == Stop::context_full ? "the context is full" : "the context is nearly full",
                          session_.cells(), llama_n_ctx(session_.context()));
        return {};
    }

    Status obey(const std::string& line) {
        std::istringstream words(line);
        std::string name;
        words >> name;
        if (name == "/compact") return compact(words);
        if (name == "/help") return kvfold::print(stdout, "{}", help()), Status{};
        if (name == "/stats") return print_stats();
        if (name == "/unfold") return unfold();
        std::string file;
        std::getline(words >> std::ws, file);
        if (name != "/save" && name != "/load" && name != "/archive")
            return fail(ErrorCode::invalid_argument, "no command {}; /help lists them", name);
        if (file.empty()) return fail(ErrorCode::invalid_argument, "{} needs a file", name);
        return name == "/save" ? save(file) : name == "/load" ? load(file) : archive(file);
    }

    Status compact(std::istringstream& words) {
        Budget budget;
        const Method* method = &default_method();
        std::string word;
        if (words >> word) {
            const bool is_number = CLI::detail::lexical_cast(word, budget.ratio);
            KVFOLD_CHECK(is_number ? check(budget) : out_of_range(limits::ratio, word));
        }
        if (words >> word) {
            KVFOLD_TRY(method, find_method(word));
        }
        if (words >> word)
            return fail(ErrorCode::invalid_argument, "'{}' is too much; write /compact R METHOD", word);
        if (session_.cells() == 0)
            return fail(ErrorCode::invalid_argument, "there is nothing to compact yet");
        ProgressBar bar;
        KVFOLD_TRY(const CompactReport report, session_.compact(*method, budget, options_.sample.seed, bar));
        kvfold::print(stdout, "({} -> {} cells, {} -> {}, {:.1f} s)\n", report.cells_before,
                      report.cells_after, megabytes(report.bytes_before), megabytes(report.bytes_after),
                      report.snapshot_s + report.study_s + report.solve_s + report.swap_s);
        return {};
    }

    Status unfold() {
        const size_t cells = session_.cells();
        KVFOLD_CHECK(session_.unfold());
        kvfold::print(stdout, "({} -> {} cells)\n", cells, session_.cells());
        return {};
    }

    Status archive(const std::string& file) {
        KVFOLD_CHECK(session_.save_archive(file));
        kvfold::print(stdout, "({} written)\n", file);
        return {};
    }

    Status print_stats() {
        const size_t bytes = session_.cells() == 0 ? 0 : llama_state_seq_get_size(session_.context(), 0);
        const Session::Recalled recalled = session_.recalled();
        const std::string asked =
            recalled.cells == 0
                ? ""
                : kvfold::format(" ({} of them recalled, asked {} times)", recalled.cells, recalled.times);
        kvfold::print(stdout, "({} tokens in {} of {} cells{}, {})\n", session_.tokens().size(),
                      session_.cells(), llama_n_ctx(session_.context()), asked, megabytes(bytes));
        return {};
    }

    Status save(const std::string& file) {
        KVFOLD_CHECK(session_.save(file));
        kvfold::print(stdout, "({} written, {} cells)\n", file, session_.cells() - session_.recalled().cells);
        return {};
    }

    Status load(const std::string& file) {
        KVFOLD_TRY(SlotFile slot, read_slot_for(model_, file));
        KVFOLD_TRY(session_,
                   Session::restore(model_, std::move(slot), options_.model.context, kFreeCells, keeping_));
        return print_stats();
    }

    const ChatOptions& options_;
    const LoadedModel& model_;
    const Keeping keeping_;
    Session session_;
};

Result<Session> start(const LoadedModel& model, const ChatOptions& options, const Keeping& keeping) {
    if (options.state.empty())
        return Session::open(model, options.model.context != 0 ? options.model.context : kFreeCells, keeping);
    KVFOLD_TRY(SlotFile slot, read_slot_for(model, options.state));
    if (!options.archive.empty()) {
        KVFOLD_TRY(const StoredFolds stored, read_archive_file(options.archive, slot.state.sections.front()));
        KVFOLD_CHECK(add(*keeping.folds, stored));
    }
    return Session::restore(model, std::move(slot), options.model.context, kFreeCells, keeping);
}

Status run_chat(const ChatOptions& options) {
    KVFOLD_TRY(const LoadedModel model, open_model(options.model));
    std::error_code none; // reading it will tell
    const size_t stored = options.archive.empty() ? 0 : std::filesystem::file_size(options.archive, none);
    KeptFolds folds(default_archive_bytes() + (none ? 0 : stored));
    const Keeping keeping{&folds, options.recall};
    KVFOLD_TRY(Session session, start(model, options, keeping));
    return Chat(options, model, keeping, std::move(session)).run();
}

} // namespace

void add_chat(CLI::App& app, Command& chosen) {
    auto options = std::make_shared<ChatOptions>();
    CLI::App* command = app.add_subcommand("chat", "Talk, and compact what was said while talking");
    command->footer(
        "Reads a question a line from standard input. What is folded meanwhile is kept in memory, at most "
        "a quarter of what is free. Commands:\n" +
        help());
    add_model_options(*command, options->model);
    CLI::Option* state = command->add_option("-s,--state", options->state, "slot file to go on from");
    state->option_text("STATE");
    command->add_option("--archive", options->archive, "what compact --archive wrote beside the state")
        ->needs(state)
        ->option_text("FILE");
    add_recall_option(*command, options->recall);
    add_context_option(*command, options->model.context, "4096, and with a state as many beside its cells");
    const auto [keys, values] = add_cache_type_options(*command, options->model);
    add_solve_on_option(*command, options->model);
    keys->excludes(state);
    values->excludes(state);
    add_sample_options(*command, options->sample);
    command->callback([options, &chosen] { chosen = [options] { return run_chat(*options); }; });
}

} // namespace kvfold::cli
