#include "cli/description.h"

#include "base/format.h"

#include <algorithm>
#include <array>

namespace kvfold::cli {

namespace {

// The words that stand for a file in --help.
constexpr std::array kFileWords = {"DIR", "FILE", "IN", "MODEL", "OUT", "STATE", "TEXT"};

bool names_a_file(const std::string& value) {
    const size_t begin = value.find_first_not_of('[');
    if (begin == std::string::npos) return false;
    const std::string word = value.substr(begin, value.find_first_of(":[]", begin) - begin);
    return std::ranges::find(kFileWords, word) != kFileWords.end();
}

// type: as Option::get_type_name says it, with "{a,b}" where a validator lists its choices.
std::vector<std::string> choices_of(const std::string& type) {
    const size_t open = type.find('{');
    const size_t close = type.find('}', open);
    if (open == std::string::npos || close == std::string::npos) return {};
    return CLI::detail::split(type.substr(open + 1, close - open - 1), ',');
}

OptionText describe_option(const CLI::Option& option) {
    OptionText text;
    text.is_positional = option.get_positional();
    if (text.is_positional) text.names.push_back(option.get_name(true));
    for (const std::string& name : option.get_snames())
        text.names.push_back("-" + name);
    for (const std::string& name : option.get_lnames())
        text.names.push_back("--" + name);
    text.help = option.get_description();
    if (option.get_items_expected_max() == 0) return text;
    text.value = text.is_positional ? text.names.front() : option.get_option_text();
    text.needs_value = option.get_items_expected_min() > 0;
    text.is_list = option.get_delimiter() != '\0';
    text.choices = choices_of(option.get_type_name());
    text.is_file = names_a_file(text.value);
    return text;
}

bool is_shown(const CLI::App* app) { return !app->get_group().empty(); }

CommandText describe_command(const CLI::App& app) {
    CommandText text{app.get_name(), app.get_description(), app.get_footer(), {}};
    for (const CLI::Option* option : app.get_options())
        if (!option->get_group().empty()) text.options.push_back(describe_option(*option));
    return text;
}

} // namespace

std::vector<CommandText> describe_commands(const CLI::App& app) {
    std::vector<CommandText> commands = {describe_command(app)};
    for (const CLI::App* command : app.get_subcommands(is_shown)) {
        commands.push_back(describe_command(*command));
        CommandText& text = commands.back(); // CLI11 gives a command that has no footer the program's
        if (text.footer == commands.front().footer) text.footer.clear();
    }
    return commands;
}

} // namespace kvfold::cli
