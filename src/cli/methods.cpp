#include "base/format.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/terminal.h"
#include "method/measured.h"

#include <memory>

namespace kvfold::cli {

namespace {

OrderedJson to_json() {
    OrderedJson list = OrderedJson::array();
    for (const Method* method : all_methods()) {
        OrderedJson entry = {
            {"name", method->name}, {"advice", method->advice}, {"default", method == &default_method()}};
        if (const auto measured = find_measured(method->name)) {
            entry["cost"] = measured->cost;
            entry["relative_kl"] = measured->kl;
        }
        list.push_back(std::move(entry));
    }
    return list;
}

Status run_methods(const JsonTarget& json) {
    if (json.wanted()) return write_json(json, to_json());
    size_t widest = 0;
    for (const Method* method : all_methods())
        widest = std::max(widest, method->name.size());
    const Table table(stdout,
                      {{"method", static_cast<int>(widest), true}, {"cost", 5}, {"KL", 5}, {"", 0, true}});
    table.print_header();
    for (const Method* method : all_methods()) {
        const auto measured = find_measured(method->name);
        const auto figure = [&](double Measured::*which) {
            return measured ? kvfold::format("{:.2f}", (*measured).*which) : std::string("-");
        };
        table.print_row({std::string(method->name), figure(&Measured::cost), figure(&Measured::kl),
                         std::string(method->advice)});
    }
    kvfold::print(
        stdout,
        "\n{} is the default.\n"
        "cost: study and solve, the prefill being 1. KL: what the cache loses, keep_last being 1.\n{}\n",
        default_method().name, measured_how());
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
