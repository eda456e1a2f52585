#include "cli/commands.h"
#include "cli/options.h"
#include "cli/terminal.h"

#include <memory>

namespace kvfold::cli {

namespace {

Status run_methods(const JsonTarget& json) {
    Json list = Json::array();
    size_t widest = 0;
    for (const Method* method : all_methods()) {
        list.push_back(
            {{"name", method->name}, {"advice", method->advice}, {"default", method == &default_method()}});
        widest = std::max(widest, method->name.size());
    }
    if (json.wanted()) return write_json(json, list);
    for (const Method* method : all_methods()) {
        const std::string name = fmt::format("{:<{}}", method->name, widest);
        fmt::print("{}  {}{}\n", bold(stdout, name), method->advice,
                   method == &default_method() ? " (default)" : "");
    }
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
