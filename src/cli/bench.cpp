#include "measure/bench.h"
#include "base/format.h"
#include "cli/commands.h"
#include "cli/session.h"
#include "model/llama_check.h"

#include <memory>
#include <random>

namespace kvfold::cli {

namespace {

struct BenchOptions {
    ModelOptions model;
    std::string text, slot;
    std::vector<double> ratios = {1, 2, 4, 8, 16};
    std::string method = std::string(default_method().name);
    int rounds = 5;
    uint64_t seed = 1;
    JsonTarget json;
};

// Words of the vocabulary in no order, the same ones each time.
std::vector<llama_token> random_tokens(const LoadedModel& model, size_t count) {
    const llama_vocab* vocab = llama_model_get_vocab(model.model.get());
    const auto vocabulary = static_cast<uint64_t>(llama_vocab_n_tokens(vocab));
    std::mt19937_64 rng(1);
    std::vector<llama_token> tokens;
    while (tokens.size() < count) {
        const auto token =
            static_cast<llama_token>(rng() % vocabulary); // distributions differ between libraries
        if (!llama_vocab_is_control(vocab, token) && !llama_vocab_is_eog(vocab, token))
            tokens.push_back(token);
    }
    return tokens;
}

Result<std::vector<llama_token>> bench_tokens(const LoadedModel& model, const BenchOptions& options) {
    const size_t count = options.model.context;
    if (options.text.empty()) return random_tokens(model, count);
    KVFOLD_TRY(std::vector<llama_token> tokens, read_text(model, options.text));
    if (tokens.size() < count)
        return fail(ErrorCode::invalid_argument,
                    "{}: has {} tokens, fewer than -c {}; give a longer text, lower -c, or "
                    "leave -f out",
                    options.text, tokens.size(), count);
    tokens.resize(count);
    return tokens;
}

std::string source_of(const BenchOptions& options, std::string otherwise) {
    const std::string& file = options.slot.empty() ? options.text : options.slot;
    return file.empty() ? std::move(otherwise) : file_name(file);
}

std::string with_spread(const Spread& s) {
    return kvfold::format("{:.1f} ({:.1f}..{:.1f})", s.median, s.min, s.max);
}

std::string peak_text(const std::optional<size_t>& bytes) { return bytes ? megabytes(*bytes) : "?"; }

// Of a method that follows the model.
void print_costs(FILE* out, const BenchReport& report) {
    if (report.prefill_s == 0 || report.rows.empty() || report.rows.back().report.effort == 0) return;
    kvfold::print(out, "study + solve, in prefills (expected):");
    for (const BenchRow& row : report.rows)
        kvfold::print(out, "{} {:.2f} ({:.2f}) at {:g}x", &row == &report.rows.front() ? "" : ",",
                      (row.report.study_s + row.report.solve_s) / report.prefill_s,
                      row.report.expected.total(), row.ratio);
    kvfold::print(out, "\n");
}

void print_report(FILE* out, const BenchReport& report) {
    const Table table(out, {{"ratio", 5},
                            {"cells", 6},
                            {"decode tok/s", 22},
                            {"speedup", 7},
                            {"next turn ms", 24},
                            {"state", 9},
                            {"study", 7},
                            {"solve", 7},
                            {"peak extra", 10}});
    table.print_header();
    for (const BenchRow& row : report.rows)
        table.print_row({kvfold::format("{:g}x", row.ratio), std::to_string(row.cells),
                         with_spread(row.decode_tok_s), kvfold::format("{:.2f}x", row.speedup),
                         with_spread(row.turn_ms), megabytes(row.report.bytes_after),
                         kvfold::format("{:.1f} s", row.report.study_s),
                         kvfold::format("{:.1f} s", row.report.solve_s), peak_text(row.peak_extra_bytes)});
    kvfold::print(out, "\nfull cache, stock context   {} tok/s\n", with_spread(report.stock_tok_s));
    kvfold::print(out, "full cache, kvfold context  {} tok/s, overhead {:+.1f}%\n",
                  with_spread(report.kvfold_tok_s), 100 * report.overhead);
    kvfold::print(out, "peak extra memory of compaction {}", peak_text(report.peak_extra_bytes));
    if (report.prefill_s > 0) kvfold::print(out, "; prefill {:.1f} s", report.prefill_s);
    kvfold::print(out, "\n");
    print_costs(out, report);
}

OrderedJson row_json(const BenchRow& row) {
    return {{"ratio", row.ratio},
            {"cells", row.cells},
            {"decode_tok_s", row.decode_tok_s.median},
            {"decode_tok_s_min", row.decode_tok_s.min},
            {"decode_tok_s_max", row.decode_tok_s.max},
            {"speedup", row.speedup},
            {"turn_ms", row.turn_ms.median},
            {"turn_ms_min", row.turn_ms.min},
            {"turn_ms_max", row.turn_ms.max},
            {"bytes", row.report.bytes_after},
            {"effort", row.report.effort},
            {"expected_study", row.report.expected.study},
            {"expected_solve", row.report.expected.solve},
            {"study_tokens", row.report.study_tokens},
            {"study_s", row.report.study_s},
            {"solve_s", row.report.solve_s},
            {"swap_s", row.report.swap_s},
            {"peak_extra_mb", megabytes_json(row.peak_extra_bytes)}};
}

OrderedJson to_json(const BenchOptions& options, const LoadedModel& model, const BenchRequest& request,
                    const BenchReport& report) {
    OrderedJson rows = OrderedJson::array();
    for (const BenchRow& row : report.rows)
        rows.push_back(row_json(row));
    const OrderedJson baseline = {{"stock_tok_s", report.stock_tok_s.median},
                                  {"stock_tok_s_min", report.stock_tok_s.min},
                                  {"stock_tok_s_max", report.stock_tok_s.max},
                                  {"kvfold_tok_s", report.kvfold_tok_s.median},
                                  {"kvfold_tok_s_min", report.kvfold_tok_s.min},
                                  {"kvfold_tok_s_max", report.kvfold_tok_s.max},
                                  {"overhead", report.overhead}};
    return {{"model", model.name},
            {"context", request.tokens.size()},
            {"method", options.method},
            {"text", source_of(options, "random tokens")},
            {"prefill_s", report.prefill_s},
            {"rounds", request.rounds},
            {"decode_tokens", request.decode_tokens},
            {"turn_tokens", request.turn_tokens},
            {"threads", model.threads()},
            {"kernels", kernels_name()},
            {"cache_type_k", ggml_type_name(model.params.type_k)},
            {"cache_type_v", ggml_type_name(model.params.type_v)},
            {"kvfold", KVFOLD_VERSION},
            {"llama_cpp", llama_version_name()},
            {"rows", rows},
            {"baseline", baseline},
            {"peak_extra_mb", megabytes_json(report.peak_extra_bytes)}};
}

Status run_bench(const BenchOptions& options) {
    KVFOLD_CHECK(check_can_write(options.json));
    KVFOLD_TRY(const Method* method, find_method(options.method));
    KVFOLD_TRY(LoadedModel model, open_model(options.model));
    SlotFile slot;
    if (!options.slot.empty()) {
        KVFOLD_TRY(slot, read_full_slot_for(model, options.slot));
    } else {
        KVFOLD_TRY(slot.text.tokens, bench_tokens(model, options));
    }
    FILE* out = options.json.human();
    kvfold::print(out, "{}: {} tokens ({}), {} threads, {} rounds, median (min..max)\n\n", model.name,
                  slot.text.tokens.size(),
                  source_of(options, "random ones, speed does not depend on the text"), model.threads(),
                  options.rounds);
    std::fflush(out);
    ProgressBar bar;
    BenchRequest request;
    request.tokens = slot.text.tokens;
    if (!options.slot.empty()) request.full = &slot.state;
    request.ratios = options.ratios;
    request.method = method;
    request.rounds = options.rounds;
    request.context = model.params;
    request.adapters = model.adapters;
    request.seed = options.seed;
    request.solve_on = model.solve_on;
    request.progress = bar.for_compaction("compaction: ");
    request.step = [&bar](std::string_view what, double done) { bar.show(what, done); };
    KVFOLD_TRY(const BenchReport report, bench(model.model.get(), request));
    bar.clear();
    print_report(out, report);
    return write_json(options.json, to_json(options, model, request, report));
}

} // namespace

void add_bench(CLI::App& app, Command& chosen) {
    auto options = std::make_shared<BenchOptions>();
    options->model.context = 7168;
    CLI::App* command =
        app.add_subcommand("bench", "Measure decode speed with the full and with compact caches");
    command->footer(
        "Everything is measured in one run, in turn: 16 tokens decoded one at a time, then 64 prefilled as "
        "the\n"
        "next turn. The stock context is filled by llama.cpp alone; overhead is its speed against the\n"
        "full cache that kvfold read and put back. Peak extra memory is resident memory (Linux only).");
    add_model_options(*command, options->model);
    CLI::Option* context = command->add_option("-c,--ctx-size", options->model.context,
                                               "tokens of the full cache; default: 7168");
    context->check(CLI::Range(64, 1 << 30))->option_text("N");
    CLI::Option* text =
        command->add_option("-f,--file", options->text,
                            "a text to fill the cache with; default: random tokens, for speed "
                            "does not depend on the text");
    text->option_text("TEXT");
    CLI::Option* slot = add_full_slot_option(*command, options->slot);
    slot->excludes(text)->excludes(context);
    command->add_option("--ratios", options->ratios, "cells before / cells after; default: 1,2,4,8,16")
        ->delimiter(',')
        ->check(limit_check(limits::ratio))
        ->option_text("R,...");
    command->add_option("--method", options->method, "see kvfold methods; default: " + options->method)
        ->check(method_check())
        ->option_text("NAME");
    command->add_option("--rounds", options->rounds, "measurements of each cache; default: 5")
        ->check(CLI::Range(1, 1000))
        ->option_text("N");
    const auto [keys, values] = add_cache_type_options(*command, options->model);
    add_solve_on_option(*command, options->model);
    slot->excludes(keys)->excludes(values);
    command->add_option("--seed", options->seed, "seed of the study; default: 1")->option_text("N");
    add_json_option(*command, options->json);
    command->callback([options, &chosen] { chosen = [options] { return run_bench(*options); }; });
}

} // namespace kvfold::cli
