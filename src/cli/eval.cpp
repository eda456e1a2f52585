#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/session.h"
#include "measure/evaluate.h"

#include <memory>

namespace kvfold::cli {

namespace {

constexpr size_t kContinuation = 256; // tokens that are teacher-forced

struct EvalOptions {
    ModelOptions model;
    std::string text;
    size_t offset = 0;
    std::vector<double> ratios = {8};
    std::vector<std::string> also; // cache types
    std::vector<std::string> methods = {"keep_last", "select", "solver", "refine"};
    uint64_t seed = 1;
    JsonTarget json;
};

// `count` tokens of the text from `offset` on, behind the model's own first token.
Result<std::vector<llama_token>> read_window(const LoadedModel& model, const EvalOptions& options,
                                             size_t count) {
    KVFOLD_TRY(std::vector<llama_token> tokens, read_text(model, options.text));
    const llama_vocab* vocab = llama_model_get_vocab(model.model.get());
    const size_t first = llama_vocab_get_add_bos(vocab) && tokens.front() == llama_vocab_bos(vocab) ? 1 : 0;
    const size_t left = tokens.size() - std::min(tokens.size(), options.offset);
    if (left < count)
        return fail(ErrorCode::invalid_argument,
                    "{}: has {} tokens behind --offset {}, but {} are needed (-c {} and {} of "
                    "continuation); give a longer text or lower -c",
                    options.text, left, options.offset, count, options.model.context, kContinuation);
    const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(first);
    tokens.erase(begin, begin + static_cast<std::ptrdiff_t>(options.offset));
    tokens.resize(count);
    return tokens;
}

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

// The cache of the options first, then those of --also.
std::vector<EvalCache> chosen_caches(const EvalOptions& options) {
    const ModelOptions& model = options.model;
    std::string name = model.keys == model.values ? model.keys : model.keys + "/" + model.values;
    std::vector<EvalCache> caches = {{std::move(name), cache_type(model.keys), cache_type(model.values)}};
    for (const std::string& type : options.also)
        caches.push_back({type, cache_type(type), cache_type(type)});
    return caches;
}

Table make_table(FILE* out) {
    return Table(out, {{"method", 15, true},
                       {"cache", 5, true},
                       {"ratio", 5},
                       {"cells", 6},
                       {"KL", 7},
                       {"KL 64", 7},
                       {"top-1", 6},
                       {"dNLL", 7},
                       {"cosine", 6},
                       {"study", 7},
                       {"solve", 7},
                       {"swap", 7},
                       {"state", 9}});
}

std::vector<std::string> quality_cells(const Divergence& d) {
    return {fmt::format("{:.4f}", d.kl), fmt::format("{:.4f}", d.kl_first64),
            fmt::format("{:.1f}%", 100 * d.top1), fmt::format("{:+.4f}", d.dnll),
            fmt::format("{:.4f}", d.logit_cosine)};
}

void print_row(const Table& table, const EvalRow& row) {
    std::vector<std::string> cells = {row.method, row.cache, fmt::format("{:.3g}x", row.ratio),
                                      std::to_string(row.report.cells_after)};
    for (std::string& cell : quality_cells(row.divergence))
        cells.push_back(std::move(cell));
    for (const double seconds : {row.report.study_s, row.report.solve_s, row.report.swap_s})
        cells.push_back(fmt::format("{:.2f} s", seconds));
    cells.push_back(megabytes(row.report.bytes_after));
    table.print_row(cells);
}

void print_noise_floor(const Table& table, const EvalReport& report, const std::string& cache, size_t context) {
    std::vector<std::string> cells = {"(noise floor)", cache, "1x", std::to_string(context)};
    for (std::string& cell : quality_cells(report.noise_floor))
        cells.push_back(std::move(cell));
    cells.insert(cells.end(), {"", "", "", megabytes(report.bytes)});
    table.print_row(cells);
}

Json row_json(const EvalRow& row) {
    const CompactReport& report = row.report;
    const Divergence& d = row.divergence;
    return {{"method", row.method},
            {"cache", row.cache},
            {"ratio", row.ratio},
            {"cells_before", report.cells_before},
            {"cells_after", report.cells_after},
            {"kl", d.kl},
            {"kl_first64", d.kl_first64},
            {"top1", d.top1},
            {"dnll", d.dnll},
            {"logit_cosine", d.logit_cosine},
            {"study_s", report.study_s},
            {"solve_s", report.solve_s},
            {"swap_s", report.swap_s},
            {"bytes_before", report.bytes_before},
            {"bytes_after", report.bytes_after},
            {"peak_extra_mb", megabytes_json(row.peak_extra_bytes)}};
}

Json to_json(const EvalOptions& options, const LoadedModel& model, const EvalReport& report) {
    Json rows = Json::array();
    for (const EvalRow& row : report.rows)
        rows.push_back(row_json(row));
    return {{"model", model.name},
            {"text", file_name(options.text)},
            {"offset", options.offset},
            {"context", options.model.context},
            {"continuation", report.continuation},
            {"noise_floor_kl", report.noise_floor.kl},
            {"prefill_s", report.prefill_s},
            {"threads", model.threads()},
            {"seed", options.seed},
            {"cache_type_k", options.model.keys},
            {"cache_type_v", options.model.values},
            {"kvfold", KVFOLD_VERSION},
            {"llama_cpp", KVFOLD_LLAMA_VERSION},
            {"rows", rows}};
}

Status run_eval(const EvalOptions& options) {
    KVFOLD_CHECK(check_can_write(options.json));
    KVFOLD_TRY(const std::vector<const Method*> methods, chosen_methods(options));
    KVFOLD_TRY(LoadedModel model, open_model(options.model));
    const size_t count = options.model.context + kContinuation;
    KVFOLD_TRY(const std::vector<llama_token> tokens, read_window(model, options, count));
    FILE* out = options.json.human();
    ProgressBar bar;
    EvalRequest request;
    request.tokens = tokens;
    request.context = options.model.context;
    request.ratios = options.ratios;
    request.caches = chosen_caches(options);
    request.methods = methods;
    request.compact.context = model.params;
    request.compact.seed = options.seed;
    request.compact.threads = model.threads();
    request.compact.progress = bar.for_compaction();

    fmt::print(out, "{}: {} tokens of {}, then {} more are predicted with the full and the compact cache\n\n",
               model.name, options.model.context, file_name(options.text), kContinuation);
    const Table table = make_table(out);
    table.print_header();
    bar.show("prefill", -1);
    KVFOLD_TRY(const EvalReport report, evaluate(model.model.get(), request, [&](const EvalRow& row) {
                   bar.clear();
                   print_row(table, row);
               }));
    bar.clear();
    print_noise_floor(table, report, request.caches.front().name, options.model.context);
    fmt::print(
        out,
        "\nKL: of the next token against the full cache, in nats, over all and the first 64 tokens. top-1: "
        "the\n"
        "same most likely token. dNLL: how much worse the text is predicted, in nats. Noise floor: the full\n"
        "cache with its cells in another order. Prefill took {:.1f} s.\n",
        report.prefill_s);
    return write_json(options.json, to_json(options, model, report));
}

} // namespace

void add_eval(CLI::App& app, Command& chosen) {
    auto options = std::make_shared<EvalOptions>();
    options->model.context = 2048;
    CLI::App* command =
        app.add_subcommand("eval", "Measure how well compact caches predict the text that follows");
    command->footer(
        "Prefills the context, compacts it with each method, predicts the next 256 tokens of the text and\n"
        "compares with the full cache. keep_last and the noise floor are always among the rows. With --also,\n"
        "caches of other types are compared with the same full cache, ratios counting bytes.");
    add_model_options(*command, options->model);
    command->add_option("-f,--file", options->text, "a text of at least context + 256 tokens")
        ->required()
        ->option_text("TEXT");
    command
        ->add_option("-c,--ctx-size", options->model.context, "tokens to prefill and compact; default: 2048")
        ->check(CLI::Range(16, 1 << 30))
        ->option_text("N");
    command->add_option("--offset", options->offset, "tokens of the text to skip; default: 0")
        ->option_text("TOKENS");
    command->add_option("--ratios", options->ratios, "cells before / cells after; default: 8")
        ->delimiter(',')
        ->check(ratio_check())
        ->option_text("R,...");
    command->add_option("--methods", options->methods, "default: keep_last,select,solver,refine")
        ->delimiter(',')
        ->check(method_check())
        ->option_text("NAME,...");
    add_cache_type_options(*command, options->model);
    command->add_option("--also", options->also, "caches of these types too, at the same bytes, for example q8_0,q4_0")
        ->delimiter(',')
        ->check(cache_type_check())
        ->option_text("TYPE,...");
    command->add_option("--seed", options->seed, "seed of the study; default: 1")->option_text("N");
    add_json_option(*command, options->json);
    command->callback([options, &chosen] { chosen = [options] { return run_eval(*options); }; });
}

} // namespace kvfold::cli
