#include "base/format.h"
#include "base/no_throw.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "device/check_device.h"
#include "launch/find_program.h"
#include "model/llama_check.h"
#include "model/model.h"
#include "model/probe.h"

#include <ggml-backend.h>
#include <llama.h>

#include <memory>

namespace kvfold::cli {

namespace {

struct Options {
    std::string model;
    JsonTarget json;
};

// "ok", or what is wrong.
std::string verdict(const Status& status) { return status ? "ok" : status.error().message; }

OrderedJson place(const Result<std::filesystem::path>& found) {
    if (found) return {{"path", found->string()}, {"problem", nullptr}};
    return {{"path", nullptr}, {"problem", found.error().message}};
}

OrderedJson backends() {
    OrderedJson list = OrderedJson::array();
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        const Status solves = without_throwing([&] { return device::check_device(device); });
        list.push_back({{"name", ggml_backend_dev_name(device)},
                        {"device", ggml_backend_dev_description(device)},
                        {"solves", verdict(solves)}});
    }
    return list;
}

// What the model's own context tells, as every command asks it before it works.
Status check_model(const std::string& path) {
    KVFOLD_TRY(const ModelPtr model, load_model(path, 0));
    KVFOLD_TRY([[maybe_unused]] const AttentionMap map,
               probe_attention(model.get(), llama_context_default_params()));
    return {};
}

OrderedJson examine(const Options& options) {
    OrderedJson checks = OrderedJson::object();
    bool usable = true;
    const auto add = [&](std::string_view about, const Status& result) {
        checks[std::string(about)] = verdict(result);
        usable = usable && result.has_value();
    };
    for (const LlamaCheck& check : check_llama_parts())
        add(check.about, check.result);
    const OrderedJson devices = usable ? backends() : OrderedJson::array();
    if (usable && devices.empty())
        add("backends", fail(ErrorCode::unsupported,
                             "ggml has none: they lie neither beside kvfold nor beside ggml's library; set "
                             "GGML_BACKEND_PATH to the one to use"));
    if (usable && !options.model.empty()) add("model", check_model(options.model));
    const std::string warning = usable ? untested_llama_warning() : "";
    return {{"kvfold", KVFOLD_VERSION},
            {"compiled_for", compiled_llama_version()},
            {"usable", usable},
            {"llama_cpp", {{"version", llama_version_name()}, {"library", library_of("llama_decode")}}},
            {"ggml", {{"version", ggml_version()}, {"library", library_of("ggml_init")}}},
            {"warning", warning.empty() ? OrderedJson(nullptr) : OrderedJson(warning)},
            {"checks", checks},
            {"backends", devices},
            {"llama_server", place(launch::find_llama_server())},
            {"preload_library", place(launch::find_preload_library())}};
}

void print_line(const std::string& name, const std::string& text) {
    kvfold::print(stdout, "{:<20}{}\n", name, text);
}

void print_place(const char* name, const OrderedJson& found) {
    print_line(name, found["path"].is_null() ? "not found: " + found["problem"].get<std::string>()
                                             : found["path"].get<std::string>());
}

void print_examined(const OrderedJson& found) {
    print_line("kvfold", found["kvfold"].get<std::string>() + ", compiled for llama.cpp " +
                             found["compiled_for"].get<std::string>());
    for (const char* name : {"llama_cpp", "ggml"})
        print_line(name == std::string("ggml") ? name : "llama.cpp",
                   found[name]["version"].get<std::string>() + ", " +
                       found[name]["library"].get<std::string>());
    for (const auto& [about, result] : found["checks"].items())
        print_line(about, result);
    for (const OrderedJson& device : found["backends"])
        print_line("backend", device["name"].get<std::string>() + ", " + device["device"].get<std::string>() +
                                  "; solving on it: " + device["solves"].get<std::string>());
    print_place("llama-server", found["llama_server"]);
    print_place("preload library", found["preload_library"]);
    if (!found["warning"].is_null()) print_line("warning", found["warning"]);
}

Status run_doctor(const Options& options) {
    KVFOLD_CHECK(check_can_write(options.json));
    const OrderedJson found = examine(options);
    if (options.json.wanted()) {
        KVFOLD_CHECK(write_json(options.json, found));
    } else {
        print_examined(found);
    }
    if (found["usable"]) return {};
    return fail(ErrorCode::unsupported, "kvfold cannot work here; the line that is not ok says why");
}

} // namespace

void add_doctor(CLI::App& app, Command& chosen) {
    auto options = std::make_shared<Options>();
    CLI::App* command =
        app.add_subcommand("doctor", "Say which llama.cpp kvfold has here, and whether they fit");
    command->footer(
        "Exit code 0 when kvfold can work. Where solving on a backend is not ok, folds of what it holds are\n"
        "solved by the processor. With a model: whether it can be compacted, and whether its\n"
        "states come back as they were written.");
    command->add_option("-m,--model", options->model, "also check a model, a GGUF file")
        ->option_text("MODEL");
    add_json_flag(*command, options->json);
    command->callback([options, &chosen] { chosen = [options] { return run_doctor(*options); }; });
}

} // namespace kvfold::cli
