// kvfold describe, which --help does not show: the build calls it for what is installed with kvfold.
#include "base/format.h"
#include "cli/commands.h"
#include "cli/description.h"

#include <map>

namespace kvfold::cli {

namespace {

using Describe = std::string (*)(const std::vector<CommandText>&);
const std::map<std::string, Describe> kForms = {
    {"bash", bash_completion}, {"fish", fish_completion}, {"man", manual_page}, {"zsh", zsh_completion}};

} // namespace

void add_describe(CLI::App& app, Command& chosen) {
    auto form = std::make_shared<std::string>();
    CLI::App* command = app.add_subcommand("describe", "Print a completion script or the manual page");
    command->group(""); // hidden
    command->add_option("FORM", *form)->required()->check(CLI::IsMember(kForms));
    command->callback([form, &app, &chosen] {
        chosen = [form, &app]() -> Status {
            kvfold::print(stdout, "{}", kForms.at(*form)(describe_commands(app)));
            return {};
        };
    });
}

} // namespace kvfold::cli
