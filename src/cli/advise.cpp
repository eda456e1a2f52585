#include "base/format.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/session.h"
#include "cli/terminal.h"
#include "measure/advice.h"

#include <limits>
#include <memory>

namespace kvfold::cli {

namespace {

struct AdviseOptions {
    ModelOptions model;
    uint64_t memory = 0, context = 0;
    JsonTarget json;
};

std::string serve_command(const AdviseOptions& options, const CacheAdvice& best) {
    std::string command = "kvfold serve";
    if (best.ratio > 1) command += kvfold::format(" --virtual {}", best.ratio);
    command += kvfold::format(" -- -m {} -c {}", shell_word(options.model.path), options.context);
    const std::string_view type = ggml_type_name(best.type);
    if (best.type != GGML_TYPE_F16) command += kvfold::format(" -ctk {} -ctv {} -fa on", type, type);
    return command;
}

OrderedJson to_json(const std::vector<CacheAdvice>& advice, const AdviseOptions& options) {
    OrderedJson rows = OrderedJson::array();
    for (const CacheAdvice& each : advice) {
        OrderedJson row = {
            {"cache", ggml_type_name(each.type)}, {"ratio", each.ratio}, {"bytes", each.bytes}};
        row["kl"] = each.kl ? OrderedJson(*each.kl) : OrderedJson(nullptr);
        rows.push_back(std::move(row));
    }
    return {{"context", options.context},
            {"memory", options.memory},
            {"advice", rows},
            {"measured", losses_measured_how()},
            {"command", serve_command(options, advice.front())}};
}

void print_advice(const std::vector<CacheAdvice>& advice, const AdviseOptions& options,
                  const LoadedModel& model, size_t cell_bytes) {
    kvfold::print(
        stdout, "{}: {} tokens are {} in an f16 cache, {:.1f} KB each.{}\n\n", model.name, options.context,
        megabytes(options.context * cell_bytes), static_cast<double>(cell_bytes) / 1000,
        model.map.has_window ? " Layers with a sliding window are not counted: they do not fold." : "");
    const Table table(stdout, {{"cache", 6, true}, {"ratio", 6}, {"memory", 9}, {"KL", 7}});
    table.print_header();
    for (const CacheAdvice& each : advice)
        table.print_row({ggml_type_name(each.type), kvfold::format("{}x", each.ratio), megabytes(each.bytes),
                         each.kl ? kvfold::format("{:.3f}", *each.kl) : "-"});
    kvfold::print(
        stdout,
        "\nThe first keeps most:\n  {}\n\nKL: about what the cache loses, in nats a token; between measured "
        "ratios an estimate.\n{}\n-: so large a ratio was not measured.\n",
        bold(stdout, serve_command(options, advice.front())), losses_measured_how());
}

Status run_advise(const AdviseOptions& options) {
    KVFOLD_CHECK(check_can_write(options.json));
    KVFOLD_TRY(const LoadedModel model, open_model(options.model));
    const auto cell_bytes = [&](ggml_type type) {
        return can_have_cells(model.map, type) ? bytes_of_cell(model.map, type, type) : 0;
    };
    const auto advice = advise(measured_losses(), cell_bytes, options.context, options.memory);
    if (!advice.front().kl)
        return fail(
            ErrorCode::invalid_argument,
            "{} tokens in {} are more than any cache was measured with; give more memory or a smaller "
            "context",
            options.context, megabytes(options.memory));
    if (options.json.wanted()) return write_json(options.json, to_json(advice, options));
    print_advice(advice, options, model, cell_bytes(GGML_TYPE_F16));
    return {};
}

} // namespace

void add_advise(CLI::App& app, Command& chosen) {
    auto options = std::make_shared<AdviseOptions>();
    CLI::App* command =
        app.add_subcommand("advise", "Say which cache type and ratio keep most of a context in some memory");
    add_model_options(*command, options->model);
    command->add_option("--memory", options->memory, "for the cells, for example 2G or 512M")
        ->required()
        ->transform(CLI::AsSizeValue(false))
        ->check(CLI::PositiveNumber)
        ->option_text("BYTES");
    command
        ->add_option("--context", options->context,
                     "tokens that are to fit, of all slots together, for example 64k")
        ->required()
        ->transform(CLI::AsSizeValue(false))
        ->check(CLI::Range(1, std::numeric_limits<int32_t>::max()))
        ->option_text("TOKENS");
    add_json_option(*command, options->json);
    command->callback([options, &chosen] { chosen = [options] { return run_advise(*options); }; });
}

} // namespace kvfold::cli
