#include "cli/commands.h"
#include "cli/options.h"
#include "cli/terminal.h"

#include <memory>

namespace kvfold::cli {

namespace {

// The preset that a method is behind, or nothing.
std::string_view preset_of(const Method& method) {
    for (const Preset& preset : all_presets()) {
        if (preset.method == &method) return preset.name;
    }
    return "";
}

Json to_json() {
    Json list = Json::array();
    for (const Method* method : all_methods()) {
        list.push_back({{"name", method->name},
                        {"advice", method->advice},
                        {"preset", preset_of(*method)},
                        {"default", method == &default_method()}});
    }
    return list;
}

Status run_methods(const JsonTarget& json) {
    if (json.wanted()) return write_json(json, to_json());
    size_t widest = 0;
    for (const Method* method : all_methods())
        widest = std::max(widest, method->name.size());
    const auto print = [&](std::string_view name, std::string_view what, const Method& method) {
        const std::string padded = fmt::format("{:<{}}", name, widest);
        fmt::print("{}  {}{}\n", bold(stdout, padded), what, &method == &default_method() ? " (default)" : "");
    };
    fmt::print("Presets, to be given as methods:\n\n");
    for (const Preset& preset : all_presets())
        print(preset.name, preset.method->name, *preset.method);
    fmt::print("\nMethods:\n\n");
    for (const Method* method : all_methods())
        print(method->name, method->advice, *method);
    return {};
}

} // namespace

void add_methods(CLI::App& app, Command& chosen) {
    auto json = std::make_shared<JsonTarget>();
    CLI::App* command = app.add_subcommand("methods", "List the methods and when to take which");
    add_json_flag(*command, *json);
    command->callback([json, &chosen] { chosen = [json] { return run_methods(*json); }; });
}

} // namespace kvfold::cli
