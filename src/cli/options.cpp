#include "cli/options.h"

#include "base/format.h"
#include "cli/description.h"
#include "solve/kernels.h"

#include <algorithm>
#include <array>

namespace kvfold::cli {

namespace {

constexpr std::array kCacheTypes = {GGML_TYPE_F32,  GGML_TYPE_F16,  GGML_TYPE_BF16,
                                    GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                    GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_IQ4_NL};

std::string cache_type_names() { return joined(kCacheTypes, " ", ggml_type_name); }

} // namespace

void add_model_options(CLI::App& command, ModelOptions& options) {
    command.add_option("-m,--model", options.path, "the model, a GGUF file")
        ->required()
        ->option_text("MODEL");
    command.add_option("-t,--threads", options.threads, "threads; default: one for each processor")
        ->check(CLI::Range(1, 1024))
        ->option_text("N");
    command
        .add_option("--gpu-layers,--n-gpu-layers", options.gpu_layers,
                    "(-ngl) layers on the GPU; default: all")
        ->option_text("N");
    command
        .add_option("--lora", options.loras,
                    "a LoRA adapter, as large as SCALE says; may be given more than once")
        ->option_text("FILE[:SCALE]");
    command
        .add_option("--control-vector", options.control_vectors,
                    "a control vector, as large as SCALE says; may be given more than once")
        ->option_text("FILE[:SCALE]");
}

void add_context_option(CLI::App& command, uint32_t& context, const std::string& when_absent) {
    command.add_option("-c,--ctx-size", context, "size of the context in cells; default: " + when_absent)
        ->check(CLI::Range(1, 1 << 30))
        ->option_text("N");
}

void add_solve_on_option(CLI::App& command, ModelOptions& options) {
    command
        .add_option_function<std::string>(
            "--solve-on",
            [&options](const std::string& name) { options.solve_on = solve_on_named(name).value(); },
            "where folds are solved: auto: each layer on the device that holds its cache; cpu; device: "
            "through ggml also where that is the processor; default: auto")
        ->check(solve_on_check())
        ->option_text("WHERE");
}

CLI::Option* add_full_slot_option(CLI::App& command, std::string& path) {
    return command
        .add_option("--session", path,
                    "a slot file of compact -r 1 with the tokens of the full cache: they are not read again")
        ->option_text("IN");
}

std::pair<CLI::Option*, CLI::Option*> add_cache_type_options(CLI::App& command, ModelOptions& options) {
    const CLI::Validator check = cache_type_check();
    auto* keys =
        command.add_option("--cache-type-k", options.keys,
                           "(-ctk) type of the cached keys: " + cache_type_names() + "; default: f16");
    auto* values = command.add_option("--cache-type-v", options.values,
                                      "(-ctv) type of the cached values; default: f16");
    keys->check(check)->option_text("TYPE");
    values->check(check)->option_text("TYPE");
    return {keys, values};
}

void add_budget_options(CLI::App& command, Budget& budget) {
    command.add_option("--keep-first", budget.keep_first, "oldest cells to keep as they are; default: 4")
        ->check(limit_check(limits::keep_first))
        ->option_text("N");
    command
        .add_option(
            "--keep-last", budget.keep_last,
            "newest cells to keep as they are; default: 32, or an eighth of the rest when that is less")
        ->check(limit_check(limits::keep_last))
        ->option_text("N");
}

CLI::Option* add_recall_option(CLI::App& command, size_t& cells) {
    return command
        .add_option(
            "--recall", cells,
            kvfold::format("cells of each head that a question takes out of the archive before it is read; "
                           "default: {}",
                           cells))
        ->check(limit_check(limits::recall))
        ->option_text("N");
}

void add_json_option(CLI::App& command, JsonTarget& target) {
    command
        .add_option_function<std::vector<std::string>>(
            "--json",
            [&target](const std::vector<std::string>& given) {
                target.file = given.empty() || given.front().empty() ? "-" : given.front();
            },
            "write the results as JSON to FILE, or to standard output without FILE")
        ->expected(0, 1)
        ->option_text("[FILE]");
}

void add_json_flag(CLI::App& command, JsonTarget& target) {
    command.add_flag("--json{-}", target.file, "print JSON; --json=FILE writes it to FILE");
}

ggml_type cache_type(const std::string& name) {
    return *std::find_if(kCacheTypes.begin(), kCacheTypes.end(),
                         [&](ggml_type type) { return name == ggml_type_name(type); });
}

CLI::Validator cache_type_check() {
    const auto check = [](const std::string& name) {
        const bool known = std::any_of(kCacheTypes.begin(), kCacheTypes.end(),
                                       [&](ggml_type type) { return name == ggml_type_name(type); });
        return known ? std::string()
                     : kvfold::format("no cache type '{}'; there are {}", name, cache_type_names());
    };
    return {check, choices_text(joined(kCacheTypes, ",", ggml_type_name))};
}

std::string_view kernels_name() { return chosen_kernels().value()->name; }

std::string command_line(const CLI::App& command) {
    std::string line = "kvfold " + command.get_name();
    for (const CLI::Option* option : command.get_options()) {
        const std::string name = option->get_name();
        if (option->empty() || name == "--json" || name == "--html") continue;
        const char delimiter = option->get_delimiter();
        std::string joined;
        for (const std::string& given : option->results()) {
            std::error_code ignored;
            const std::string value = std::filesystem::exists(given, ignored) ? file_name(given) : given;
            if (joined.empty() || delimiter == '\0')
                joined += kvfold::format(" {} {}", name, shell_word(value));
            else
                joined += delimiter + shell_word(value);
        }
        line += joined;
    }
    return line;
}

CLI::Validator limit_check(const Limit& limit) {
    const auto complaint = [&limit](const std::string& text) {
        double value = 0;
        const bool is_number = CLI::detail::lexical_cast(text, value);
        const Status status = is_number ? check(limit, value) : out_of_range(limit, text);
        return status ? std::string() : status.error().message;
    };
    return {complaint, std::string(limit.name)};
}

CLI::Validator method_check() {
    const auto check = [](const std::string& name) {
        const Result<const Method*> method = find_method(name);
        return method ? std::string() : method.error().message;
    };
    return {check, choices_text(joined(all_methods(), ",", &Method::name))};
}

CLI::Validator solve_on_check() {
    const auto check = [](const std::string& name) {
        const Result<SolveOn> where = solve_on_named(name);
        return where ? std::string() : where.error().message;
    };
    return {check, choices_text(joined(kSolveOnNames, ","))};
}

std::vector<std::string> take_words_behind_dashes(std::vector<std::string>& arguments) {
    const auto dashes = std::find(arguments.begin(), arguments.end(), "--");
    if (dashes == arguments.end()) return {};
    std::vector<std::string> words(dashes + 1, arguments.end());
    arguments.erase(dashes, arguments.end());
    return words;
}

void accept_llama_spellings(std::vector<std::string>& arguments) {
    for (std::string& argument : arguments) {
        if (argument == "--") return;
        if (argument == "-ctk") argument = "--cache-type-k";
        if (argument == "-ctv") argument = "--cache-type-v";
        if (argument == "-ngl") argument = "--gpu-layers";
    }
}

} // namespace kvfold::cli
