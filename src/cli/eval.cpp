#include "base/file.h"
#include "base/format.h"
#include "cli/commands.h"
#include "cli/description.h"
#include "cli/eval_output.h"
#include "cli/interrupt.h"
#include "cli/session.h"
#include "model/llama_check.h"
#include "report/report.h"

#include <algorithm>
#include <array>
#include <memory>

namespace kvfold::cli {

namespace {

struct NamedHindsight {
    std::string_view name;
    Hindsight hindsight;
    std::string_view studied; // for people
};
constexpr std::array kHindsights = {
    NamedHindsight{"judged", Hindsight::judged, "the very text that is judged"},
    NamedHindsight{"later", Hindsight::later, "the text behind what is judged"},
};

std::vector<std::string> hindsight_names() {
    std::vector<std::string> names;
    for (const NamedHindsight& hindsight : kHindsights)
        names.emplace_back(hindsight.name);
    return names;
}

struct EvalOptions {
    ModelOptions model;
    std::vector<std::string> tasks = {"continuation"};
    std::vector<std::string> texts;
    std::string slot; // of the text's first tokens; empty = they are read
    std::vector<size_t> offsets = {0};
    std::vector<double> ratios = {8};
    std::vector<std::string> also; // cache types
    std::vector<std::string> methods = {"keep_last", "select", "solver", "refine"};
    Budget budget; // its ratio: row by row
    std::vector<uint64_t> seeds = {1};
    std::vector<size_t> recalls = {0};         // cells of each head that a question takes out of what was folded
    size_t recall_every = AskingPace::kEvery;  // tokens of an answer
    size_t rounds = 12;                        // of the chat task
    size_t archive = 1024;                     // MiB, of each cache of the chat task
    const NamedHindsight* hindsight = nullptr; // null = none
    JsonTarget json;
    std::string html; // a file; empty = none
    std::string command;
};

Result<std::vector<const Method*>> chosen_methods(const EvalOptions& options) {
    std::vector<const Method*> methods;
    for (const std::string& name : options.methods) {
        KVFOLD_TRY(const Method* method, find_method(name));
        if (std::find(methods.begin(), methods.end(), method) == methods.end()) methods.push_back(method);
    }
    // A figure without the cheapest thing one could do instead says little.
    if (std::find(methods.begin(), methods.end(), &methods::keep_last) == methods.end())
        methods.insert(methods.begin(), &methods::keep_last);
    return methods;
}

// The model's cache first, then those of --also.
std::vector<EvalCache> chosen_caches(const LoadedModel& model, const EvalOptions& options) {
    const ggml_type keys = model.params.type_k, values = model.params.type_v;
    std::string name = ggml_type_name(keys);
    if (keys != values) name.append("/").append(ggml_type_name(values));
    std::vector<EvalCache> caches = {{std::move(name), keys, values}};
    for (const std::string& type : options.also)
        caches.push_back({type, cache_type(type), cache_type(type)});
    return caches;
}

// Each once, in the suite's order.
std::vector<const TaskKind*> chosen_tasks(const EvalOptions& options) {
    std::vector<const TaskKind*> kinds;
    for (const TaskKind* kind : all_tasks()) {
        if (std::ranges::find(options.tasks, kind->name) != options.tasks.end()) kinds.push_back(kind);
    }
    return kinds;
}

std::string task_names() { return joined(all_tasks(), ", ", &TaskKind::name); }

CLI::Validator task_check() {
    const auto check = [](const std::string& name) {
        const auto is_it = [&](const TaskKind* kind) { return kind->name == name; };
        return std::ranges::any_of(all_tasks(), is_it)
                   ? std::string()
                   : kvfold::format("no task '{}'; there are {}", name, task_names());
    };
    return {check, choices_text(joined(all_tasks(), ",", &TaskKind::name))};
}

Result<std::vector<SuiteText>> read_texts(const LoadedModel& model, const EvalOptions& options,
                                          const std::vector<const TaskKind*>& kinds) {
    std::vector<SuiteText> texts;
    for (const TaskKind* kind : kinds) {
        if (kind->needs_text && options.texts.empty())
            return fail(ErrorCode::invalid_argument, "the task {} reads a text; give one with -f",
                        kind->name);
    }
    for (const std::string& path : options.texts) {
        KVFOLD_TRY(std::vector<llama_token> tokens, read_text(model, path));
        texts.push_back({file_name(path), std::move(tokens)});
    }
    return texts;
}

// What the slot file holds must be what the tasks would read.
Status check_slot_text(const EvalOptions& options, const SlotFile& slot, const SuiteRequest& request) {
    for (const TaskKind* kind : request.kinds) {
        if (!kind->needs_text)
            return fail(ErrorCode::invalid_argument, "the task {} makes up its text: leave --session out",
                        kind->name);
    }
    const std::vector<llama_token>& text = request.texts.front().tokens;
    if (request.texts.size() != 1 || text.size() < slot.text.tokens.size() ||
        !std::equal(slot.text.tokens.begin(), slot.text.tokens.end(), text.begin()))
        return fail(
            ErrorCode::invalid_argument,
            "{}: its {} tokens are not the first ones of the text; give the one text with -f that goes "
            "on behind them",
            options.slot, slot.text.tokens.size());
    return {};
}

// Texts and what is to be measured. slot: of options.slot, empty without it.
Result<SuiteRequest> make_request(const LoadedModel& model, const EvalOptions& options,
                                  const SlotFile& slot) {
    SuiteRequest request;
    request.kinds = chosen_tasks(options);
    KVFOLD_TRY(request.texts, read_texts(model, options, request.kinds));
    request.offsets = options.offsets;
    request.seeds = options.seeds;
    request.context = options.model.context;
    if (!options.slot.empty()) {
        KVFOLD_CHECK(check_slot_text(options, slot, request));
        request.context = slot.text.tokens.size();
        request.eval.full = &slot.state;
    }
    request.eval.ratios = options.ratios;
    request.eval.caches = chosen_caches(model, options);
    KVFOLD_TRY(request.eval.methods, chosen_methods(options));
    if (options.hindsight) request.eval.hindsight = options.hindsight->hindsight;
    request.eval.recalls = options.recalls;
    request.eval.recall_every = options.recall_every;
    request.eval.rounds = options.rounds;
    request.eval.archive_bytes = options.archive << 20;
    request.eval.compact.budget = options.budget;
    request.eval.compact.context = model.params;
    request.eval.compact.adapters = model.adapters;
    request.eval.compact.threads = model.threads();
    request.eval.compact.solve_on = model.solve_on;
    return request;
}

OrderedJson describe(const EvalOptions& options, const LoadedModel& model, size_t context, double prefill_s) {
    OrderedJson texts = OrderedJson::array();
    for (const std::string& path : options.texts)
        texts.push_back(file_name(path));
    return {{"model", model.name},
            {"command", options.command},
            {"texts", texts},
            {"offsets", options.offsets},
            {"seeds", options.seeds},
            {"context", context},
            {"hindsight", options.hindsight ? OrderedJson(options.hindsight->name) : OrderedJson()},
            {"prefill_s", options.slot.empty() ? OrderedJson(prefill_s) : OrderedJson(nullptr)},
            {"threads", model.threads()},
            {"kernels", kernels_name()},
            {"cache_type_k", ggml_type_name(model.params.type_k)},
            {"cache_type_v", ggml_type_name(model.params.type_v)},
            {"kvfold", KVFOLD_VERSION},
            {"llama_cpp", llama_version_name()}};
}

void print_legend(FILE* out, const std::vector<SummaryRow>& summary, double prefill_s) {
    kvfold::print(
        out,
        "KL: of the next token against the full cache, in nats. top-1: the same most likely token. dNLL: how\n"
        "much worse the text or answer is predicted, in nats a token. exact: answers whose every token is the\n"
        "most likely one. Noise floor: the full cache with its cells in another order.");
    std::vector<std::string_view> told;
    for (const SummaryRow& row : summary) {
        const Judge* judge = row.mean.judge;
        if (!judge || std::ranges::find(told, judge->title) != told.end()) continue;
        kvfold::print(out, "\n{}: {}.", judge->title, judge->about);
        told.push_back(judge->title);
    }
    if (prefill_s > 0)
        kvfold::print(out, " Prefill took {:.1f} s.", prefill_s); // a chat is read turn by turn
    kvfold::print(out, "\n");
}

Status run_eval(const EvalOptions& options) {
    KVFOLD_CHECK(check_can_write(options.json));
    if (!options.html.empty()) KVFOLD_CHECK(check_can_write(options.html));
    KVFOLD_TRY(LoadedModel model, open_model(options.model));
    SlotFile slot;
    if (!options.slot.empty()) {
        KVFOLD_TRY(slot, read_full_slot_for(model, options.slot));
    }
    KVFOLD_TRY(SuiteRequest request, make_request(model, options, slot));
    ProgressBar bar;
    ProgressFn goes_on = bar.for_compaction(); // of what is measured now
    request.eval.step = [&](std::string_view what) {
        bar.show(what, -1);
        goes_on = bar.for_compaction(std::string(what) + ", ");
    };
    request.eval.compact.progress = [&](Stage stage, float done) { return goes_on(stage, done); };

    KVFOLD_TRY(const std::vector<SuiteRow> rows, run_suite(model.model.get(), request));
    bar.clear();
    const std::vector<SummaryRow> summary = summarize(rows);
    const double prefill_s = summary.front().mean.prefill_s;
    FILE* out = options.json.human();
    kvfold::print(out, "{}, {} tokens of context\n\n", model.name, request.context);
    print_summary(out, summary);
    print_legend(out, summary, prefill_s);
    if (options.hindsight)
        kvfold::print(out, "With hindsight: methods have studied {}. A bound, not a result.\n",
                      options.hindsight->studied);
    OrderedJson json = describe(options, model, request.context, prefill_s);
    json.update(eval_json(summary, rows));
    if (!options.html.empty()) KVFOLD_CHECK(write_file(options.html, render_report(json)));
    return write_json(options.json, json);
}

std::string tasks_help() {
    std::string help = "Tasks:\n";
    for (const TaskKind* kind : all_tasks())
        help += kvfold::format("  {:<13} {}\n", kind->name, kind->about);
    return help;
}

// Which texts, and where they are read from. Returns the option of the slot file.
CLI::Option* add_text_options(CLI::App& command, EvalOptions& options) {
    command.add_option("--tasks", options.tasks, task_names() + "; default: continuation")
        ->delimiter(',')
        ->check(task_check())
        ->option_text("NAME,...");
    command.add_option("-f,--file", options.texts, "a text, source code too; may be given more than once")
        ->option_text("TEXT");
    CLI::Option* slot = add_full_slot_option(command, options.slot);
    command
        .add_option("-c,--ctx-size", options.model.context, "tokens to prefill and compact; default: 2048")
        ->excludes(slot)
        ->check(CLI::Range(16, 1 << 30))
        ->option_text("N");
    command.add_option("--offsets,--offset", options.offsets, "tokens of each text to skip; default: 0")
        ->excludes(slot)
        ->delimiter(',')
        ->option_text("TOKENS,...");
    return slot;
}

// options outlives what the command line calls.
void add_measured_options(CLI::App& command, EvalOptions& options, CLI::Option* slot) {
    command.add_option("--ratios", options.ratios, "cells before / cells after; default: 8")
        ->delimiter(',')
        ->check(limit_check(limits::ratio))
        ->option_text("R,...");
    command.add_option("--methods", options.methods, "default: keep_last,select,solver,refine")
        ->delimiter(',')
        ->check(method_check())
        ->option_text("NAME,...");
    add_budget_options(command, options.budget);
    const auto [keys, values] = add_cache_type_options(command, options.model);
    add_solve_on_option(command, options.model);
    slot->excludes(keys)->excludes(values);
    command
        .add_option("--also", options.also,
                    "caches of these types too, at the same bytes, for example q8_0,q4_0")
        ->delimiter(',')
        ->check(cache_type_check())
        ->option_text("TYPE,...");
    command.add_option("--seeds,--seed", options.seeds, "of the study and of made-up texts; default: 1")
        ->delimiter(',')
        ->option_text("N,...");
    command
        .add_option("--recall", options.recalls,
                    "cells of each head that a question takes out of what was folded; default: 0")
        ->delimiter(',')
        ->check(CLI::Range(0, 1 << 20))
        ->option_text("N,...");
    command
        .add_option("--recall-every", options.recall_every,
                    "tokens of an answer, at most, after which it recalls other cells; 0: never; default: 8")
        ->check(CLI::Range(0, 1 << 20))
        ->option_text("N");
    command.add_option("--rounds", options.rounds, "of the task chat, a sixth of -c each; default: 12")
        ->check(CLI::Range(1, 1000))
        ->option_text("N");
    command
        .add_option("--archive", options.archive,
                    "of the task chat: MiB for the cells that folds replace, so that none is folded twice; "
                    "default: 1024")
        ->check(limit_check(limits::archive))
        ->option_text("MIB");
    command
        .add_option_function<std::string>(
            "--hindsight",
            [&options](const std::string& name) {
                options.hindsight = std::ranges::find(kHindsights, name, &NamedHindsight::name);
            },
            "let methods study what is judged, or the 512 tokens that come later: a bound, not a result")
        ->check(CLI::IsMember(hindsight_names()))
        ->option_text(joined(hindsight_names(), "|"));
}

} // namespace

void add_eval(CLI::App& app, Command& chosen) {
    auto options = std::make_shared<EvalOptions>();
    options->model.context = 2048;
    CLI::App* command =
        app.add_subcommand("eval", "Measure how much compact caches still know of the context");
    command->footer(
        tasks_help() +
        "\nEach is asked of the full cache, and of the cache that each method leaves at each ratio. keep_last and\n"
        "the noise floor are always among the rows. With --also, caches of other types are compared with the\n"
        "same full cache, ratios counting bytes. Several texts, offsets or seeds give means and their spread.");
    add_model_options(*command, options->model);
    add_measured_options(*command, *options, add_text_options(*command, *options));
    add_json_option(*command, options->json);
    command
        ->add_option("--html", options->html,
                     "write a report with charts to FILE, one file that opens in any browser")
        ->option_text("FILE");
    command->callback([options, command, &chosen] {
        options->command = command_line(*command);
        chosen = [options] { return run_eval(*options); };
    });
}

} // namespace kvfold::cli
