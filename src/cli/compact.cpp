#include "base/format.h"
#include "base/timer.h"
#include "cli/commands.h"
#include "cli/session.h"
#include "engine/chunks.h"
#include "engine/read_in_chunks.h"
#include "fit/figures_json.h"
#include "measure/peak_memory.h"

#include <limits>
#include <memory>

namespace kvfold::cli {

namespace {

struct CompactOptions {
    ModelOptions model;
    Budget budget;
    std::string text, slot, out, archive;
    std::string method = std::string(default_method().name);
    uint64_t seed = 1;
    uint32_t slots = 0; // as the input, else 1
    JsonTarget json;
};

struct Compacted {
    Session session;
    CompactReport report;
    double prefill_s = 0;
    std::optional<size_t> peak_extra_bytes; // of all that happened, beside the model
    size_t archive_bytes = 0;               // of what was folded; 0: it is not kept
};

Result<Session> read_input(const LoadedModel& model, const CompactOptions& options, const Method& method,
                           const Keeping& keeping, ProgressBar& bar) {
    if (!options.slot.empty()) {
        KVFOLD_TRY(SlotFile slot, read_slot_for(model, options.slot));
        return Session::restore(model, std::move(slot), options.model.context, /*free_cells=*/0, keeping);
    }
    KVFOLD_TRY(const std::vector<llama_token> tokens, read_text(model, options.text));
    const auto needed = static_cast<uint32_t>(tokens.size());
    const uint32_t cells = options.model.context != 0 ? options.model.context : needed;
    if (needed > cells)
        return fail(ErrorCode::invalid_argument,
                    "{}: has {} tokens, more than -c {}; raise -c, leave it out, or take --method chunked, "
                    "which folds while it reads",
                    options.text, needed, cells);
    KVFOLD_TRY(Session session, Session::open(model, cells, keeping));
    KVFOLD_CHECK(session.read_text(tokens, method, bar));
    llama_synchronize(session.context());
    return session;
}

// The whole input first, then a fold of it.
Result<Compacted> read_and_fold(const LoadedModel& model, const Method& method, const CompactOptions& options,
                                const Keeping& keeping) {
    ProgressBar bar;
    const PeakMemory memory;
    const Timer prefill;
    KVFOLD_TRY(Session session, read_input(model, options, method, keeping, bar));
    const double prefill_s = prefill.seconds();
    KVFOLD_TRY(CompactReport report, session.compact(method, options.budget, options.seed, bar));
    return Compacted{std::move(session), std::move(report), prefill_s, memory.extra_bytes()};
}

// A text, folded while it is read. Without -c the context has the cells that whole chunks need.
Result<Compacted> fold_while_reading(const LoadedModel& model, const Method& method,
                                     const CompactOptions& options, const Keeping& keeping) {
    KVFOLD_TRY(const std::vector<llama_token> tokens, read_text(model, options.text));
    size_t cells = options.model.context;
    if (cells == 0) {
        constexpr size_t kAnyRoom = std::numeric_limits<uint32_t>::max();
        KVFOLD_TRY(const ReadingPlan plan,
                   plan_reading(tokens.size(), options.budget, method.chunk, kAnyRoom));
        const size_t window = window_cells(model.model.get(), model.params.n_ubatch);
        cells = std::max(plan.cells, std::min(tokens.size(), window));
    }
    ProgressBar bar;
    const PeakMemory memory;
    const Timer all;
    KVFOLD_TRY(Session session, Session::open(model, static_cast<uint32_t>(cells), keeping));
    KVFOLD_TRY(CompactReport report,
               session.read_in_chunks(tokens, method, options.budget, options.seed, bar));
    const double prefill_s =
        all.seconds() - report.snapshot_s - report.study_s - report.solve_s - report.swap_s;
    return Compacted{std::move(session), std::move(report), prefill_s, memory.extra_bytes()};
}

void print_outcome(const CompactOptions& options, const LoadedModel& model, const Compacted& done) {
    const auto& [session, report, prefill_s, peak, archive_bytes] = done;
    FILE* out = options.json.human();
    const size_t tokens = session.tokens().size();
    size_t widest = std::string_view("solved on").size();
    for (const Figure& figure : report.figures)
        widest = std::max(widest, figure.name.size());
    const auto line = [&](std::string_view name, const std::string& text) {
        kvfold::print(out, "{}  {}\n", bold(out, kvfold::format("{:<{}}", name, widest)), text);
    };
    line("tokens", tokens > model.trained_context()
                       ? kvfold::format("{} (the model was trained for {})", tokens, model.trained_context())
                       : std::to_string(tokens));
    line("cells", kvfold::format("{} -> {}", report.cells_before, report.cells_after));
    if (report.effort > 0)
        line("effort", kvfold::format("{:.2f}, expected to cost {:.2f} prefills", report.effort,
                                      report.expected.total()));
    if (report.solved_on.layers > 0) line("solved on", to_text(report.solved_on));
    for (const Figure& figure : report.figures)
        line(figure.name, kvfold::format("{:.4g}", figure.value));
    line("state", kvfold::format("{} -> {}", megabytes(report.bytes_before), megabytes(report.bytes_after)));
    line("time", kvfold::format("{}study {:.1f} s, solve {:.1f} s, swap {:.2f} s",
                                options.slot.empty() ? kvfold::format("prefill {:.1f} s, ", prefill_s) : "",
                                report.study_s, report.solve_s, report.snapshot_s + report.swap_s));
    line("written", options.out);
    if (!options.archive.empty())
        line("archive", kvfold::format("{} ({})", options.archive, megabytes(archive_bytes)));
    const std::filesystem::path file = options.out;
    const std::string folder = file.has_parent_path() ? file.parent_path().string() : ".";
    kvfold::print(out, "\nAsk it:\n  kvfold ask -m {} -s {}{} -p 'What is this about?'\n",
                  shell_word(options.model.path), shell_word(options.out),
                  options.archive.empty() ? "" : " --archive " + shell_word(options.archive));
    kvfold::print(out,
                  "Or restore it in a server started with: llama-server -m {} --slot-save-path {}\n"
                  "  curl 'http://127.0.0.1:8080/slots/0?action=restore' -H 'Content-Type: application/json' "
                  "-d '{{\"filename\": \"{}\"}}'\n",
                  shell_word(options.model.path), shell_word(folder), file_name(file));
}

OrderedJson to_json(const CompactOptions& options, const LoadedModel& model, const Compacted& done) {
    const auto& [session, report, prefill_s, peak, archive_bytes] = done;
    return {
        {"model", model.name},
        {"method", options.method},
        {"ratio", options.budget.ratio},
        {"tokens", session.tokens().size()},
        {"cells_before", report.cells_before},
        {"cells_after", report.cells_after},
        {"bytes_before", report.bytes_before},
        {"bytes_after", report.bytes_after},
        {"prefill_s", options.slot.empty() ? OrderedJson(prefill_s) : OrderedJson(nullptr)},
        {"effort", report.effort},
        {"expected_study", report.expected.study},
        {"expected_solve", report.expected.solve},
        {"snapshot_s", report.snapshot_s},
        {"study_s", report.study_s},
        {"study_tokens", report.study_tokens},
        {"solve_s", report.solve_s},
        {"solved_on", to_text(report.solved_on)},
        {"swap_s", report.swap_s},
        {"figures", figures_json<OrderedJson>(report.figures)},
        {"peak_extra_mb", megabytes_json(peak)},
        {"seed", options.seed},
        {"threads", model.threads()},
        {"kernels", kernels_name()},
        {"out", file_name(options.out)},
        {"archive", options.archive.empty() ? OrderedJson(nullptr) : OrderedJson(file_name(options.archive))},
        {"archive_bytes", archive_bytes}};
}

// What is folded goes into a file of its own.
Status check_archive(const CompactOptions& options) {
    std::error_code error;
    const auto path_of = [&](const std::string& name) {
        return std::filesystem::weakly_canonical(std::filesystem::absolute(name, error), error);
    };
    for (const std::string& other : {options.out, options.slot, options.text}) {
        if (!other.empty() && path_of(other) == path_of(options.archive) && !error)
            return fail(ErrorCode::invalid_argument, "--archive {}: another option names the file too",
                        options.archive);
    }
    if (options.budget.ratio <= 1)
        return fail(ErrorCode::invalid_argument,
                    "--archive: nothing is folded at a ratio of 1; leave it out");
    return check_can_write(std::filesystem::path(options.archive));
}

Status run_compact(const CompactOptions& options) {
    KVFOLD_TRY(const Method* method, find_method(options.method));
    KVFOLD_CHECK(check_can_write(std::filesystem::path(options.out)));
    KVFOLD_CHECK(check_can_write(options.json));
    const bool is_archived = !options.archive.empty();
    if (is_archived) KVFOLD_CHECK(check_archive(options));
    KVFOLD_TRY(const LoadedModel model, open_model(options.model));
    const bool in_chunks = method->chunk > 0 && !options.text.empty();
    KeptFolds folds(std::numeric_limits<size_t>::max());
    const Keeping keeping{is_archived ? &folds : nullptr};
    KVFOLD_TRY(Compacted done, in_chunks ? fold_while_reading(model, *method, options, keeping)
                                         : read_and_fold(model, *method, options, keeping));
    if (is_archived) KVFOLD_CHECK(done.session.save_archive(options.archive));
    done.archive_bytes = folds.bytes();
    KVFOLD_CHECK(done.session.save(options.out, options.slots));
    print_outcome(options, model, done);
    return write_json(options.json, to_json(options, model, done));
}

} // namespace

void add_compact(CLI::App& app, Command& chosen) {
    auto options = std::make_shared<CompactOptions>();
    CLI::App* command =
        app.add_subcommand("compact", "Read a text or a saved state, compact it, save a slot file");
    command->footer(
        "OUT is a slot file as llama-server and llama_state_seq_save_file write it; it appears complete\n"
        "or not at all. With --session cache types come from the state. The method chunked folds a text while it\n"
        "is read: a text may be longer than the context, whose cells hold what it becomes and a chunk.");
    add_model_options(*command, options->model);
    CLI::Option* text = command->add_option("-f,--file", options->text, "a text to read");
    CLI::Option* slot =
        command->add_option("--session", options->slot, "a slot file to compact instead of a text");
    text->option_text("TEXT");
    slot->option_text("IN")->excludes(text);
    command->add_option("-o,--out", options->out, "slot file to write")->required()->option_text("OUT");
    command
        ->add_option("--archive", options->archive,
                     "also write what is folded, byte for byte, for ask and chat to recall")
        ->option_text("FILE");
    command
        ->add_option("-r,--ratio", options->budget.ratio, "cells before / cells after, 1 or more; default: 8")
        ->check(limit_check(limits::ratio))
        ->option_text("R");
    command->add_option("--method", options->method, "see kvfold methods; default: " + options->method)
        ->check(method_check())
        ->option_text("NAME");
    add_budget_options(*command, options->budget);
    add_context_option(*command, options->model.context, "as many as the text needs");
    const auto [keys, values] = add_cache_type_options(*command, options->model);
    add_solve_on_option(*command, options->model);
    keys->excludes(slot);
    values->excludes(slot);
    command
        ->add_option(
            "--slots", options->slots,
            "for a llama-server with -np N, whose slots do not share one cache; default: as IN, else 1")
        ->check(CLI::Range(1, 256))
        ->option_text("N");
    command->add_option("--seed", options->seed, "seed of the study; default: 1")->option_text("N");
    add_json_option(*command, options->json);
    command->callback([options, &chosen] {
        if (options->text.empty() && options->slot.empty()) throw CLI::RequiredError("--file or --session");
        chosen = [options] { return run_compact(*options); };
    });
}

} // namespace kvfold::cli
