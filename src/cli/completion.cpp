// Completion scripts of bash, zsh and fish.
#include "cli/description.h"

#include "base/format.h"

#include <algorithm>
#include <span>

namespace kvfold::cli {

namespace {

std::string replaced(std::string text, std::string_view what, std::string_view by) {
    for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size())
        text.replace(at, what.size(), by);
    return text;
}

// The program itself stands first.
std::span<const CommandText> subcommands(const std::vector<CommandText>& commands) {
    return std::span(commands).subspan(1);
}

bool takes_files(const CommandText& command) {
    return std::ranges::any_of(command.options,
                               [](const OptionText& o) { return o.is_positional && o.is_file; });
}

// Names worth offering: the long ones, and short ones that have no other.
std::string offered_names(const CommandText& command) {
    std::vector<std::string> names;
    for (const OptionText& option : command.options) {
        if (option.is_positional) continue;
        const size_t before = names.size();
        for (const std::string& name : option.names)
            if (name.starts_with("--")) names.push_back(name);
        if (names.size() == before) names.push_back(option.names.front());
    }
    return joined(names, " ");
}

// What bash does behind the option's name; nothing where only the user knows the value.
std::string bash_value(const OptionText& option) {
    if (!option.choices.empty())
        return kvfold::format("_kvfold_{} '{}'", option.is_list ? "list" : "words",
                              joined(option.choices, " "));
    return option.is_file ? "_kvfold_files" : "";
}

std::string bash_command(const CommandText& command) {
    std::string text = kvfold::format("    {})\n        case $option in\n", command.name);
    for (const OptionText& option : command.options) {
        if (option.is_positional || option.value.empty()) continue;
        const std::string value = bash_value(option), action = value.empty() ? "return" : value + "; return";
        text += kvfold::format("        {}) {} ;;\n", joined(option.names, " | "),
                               option.needs_value ? action : "if [[ $word != -* ]]; then " + action + "; fi");
    }
    text += "        esac\n";
    if (takes_files(command)) text += "        if [[ $word != -* ]]; then _kvfold_files; return; fi\n";
    return text + kvfold::format("        _kvfold_words '{}' ;;\n", offered_names(command));
}

// bash breaks words at "=", so that --method=re comes as three.
constexpr std::string_view kBashStart = R"(# bash completion of kvfold, made by "kvfold describe bash"

_kvfold_words() {
    COMPREPLY=($(compgen -W "$1" -- "$word"))
}

_kvfold_list() { # values with commas between them
    local before=
    if [[ $word == *,* ]]; then before=${word%,*},; fi
    COMPREPLY=($(compgen -P "$before" -W "$1" -- "${word##*,}"))
}

_kvfold_files() {
    local IFS=$'\n'
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$word"))
}

_kvfold() {
    local word=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD - 1]} i
    COMPREPLY=()
    if ((COMP_CWORD < 2)); then
        _kvfold_words '@COMMANDS@'
        return
    fi
    for ((i = 2; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == -- ]]; then _kvfold_files; return; fi # the words of another program
    done
    if [[ $word == = ]]; then
        word=
    elif [[ $option == = ]]; then
        option=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case ${COMP_WORDS[1]} in
)";

std::string names_of(std::span<const CommandText> commands) {
    return joined(commands, " ", &CommandText::name);
}

// Text between single quotes, with what zsh's _arguments reads in it made plain.
std::string zsh_quoted(const std::string& text, std::string_view special) {
    std::string quoted;
    for (const char c : text) {
        if (special.find(c) != std::string_view::npos) quoted += '\\';
        quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
    }
    return quoted;
}

std::string zsh_action(const OptionText& option) {
    const std::string words = joined(option.choices, " ");
    if (!words.empty()) return option.is_list ? "_sequence compadd - " + words : "(" + words + ")";
    return option.is_file ? "_files" : " ";
}

std::string zsh_option(const OptionText& option) {
    const std::string value = zsh_quoted(option.value, ":[]");
    if (option.is_positional) return kvfold::format("'1:{}:{}'", value, zsh_action(option));
    std::string behind = kvfold::format("[{}]", zsh_quoted(option.help, ":[]"));
    if (!option.value.empty())
        behind += kvfold::format("{}{}:{}", option.needs_value ? ":" : "::", value, zsh_action(option));
    if (option.names.size() == 1) return kvfold::format("'*{}{}'", option.names.front(), behind);
    return kvfold::format("'*'{{{}}}'{}'", joined(option.names, ","), behind);
}

std::string zsh_command(const CommandText& command) {
    std::string text = kvfold::format("    {})\n        _arguments", command.name);
    for (const OptionText& option : command.options)
        text += " \\\n            " + zsh_option(option);
    return text + "\n        ;;\n";
}

std::string fish_quoted(const std::string& text) {
    return "'" + replaced(replaced(text, "\\", "\\\\"), "'", "\\'") + "'";
}

std::string fish_option(const std::string& condition, const OptionText& option) {
    std::string line = "complete -c kvfold -n " + fish_quoted(condition);
    if (option.is_positional) return line + (option.is_file ? " -F\n" : "\n");
    for (const std::string& name : option.names)
        line += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
    if (option.is_file) line += option.needs_value ? " -r -F" : " -F";
    if (!option.is_file && option.needs_value) line += " -x";
    if (!option.choices.empty()) line += " -a " + fish_quoted(joined(option.choices, " "));
    return line + " -d " + fish_quoted(option.help) + "\n";
}

} // namespace

std::string bash_completion(const std::vector<CommandText>& commands) {
    const std::string first = names_of(subcommands(commands)) + " " + offered_names(commands.front());
    std::string text = replaced(std::string(kBashStart), "@COMMANDS@", first);
    for (const CommandText& command : subcommands(commands))
        text += bash_command(command);
    return text + "    esac\n}\n\ncomplete -F _kvfold kvfold\n";
}

std::string zsh_completion(const std::vector<CommandText>& commands) {
    std::string text = "#compdef kvfold\n# zsh completion of kvfold, made by \"kvfold describe zsh\"\n\n"
                       "_kvfold() {\n    local -a commands=(\n";
    for (const CommandText& command : subcommands(commands))
        text += kvfold::format("        '{}:{}'\n", command.name, zsh_quoted(command.summary, ":"));
    text += "    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        _arguments";
    for (const OptionText& option : commands.front().options)
        text += " " + zsh_option(option);
    text += "\n        return\n    fi\n"
            "    if (( ${words[(i)--]} < CURRENT )); then # the words of another program\n"
            "        _files\n        return\n    fi\n"
            "    shift words\n    (( CURRENT-- ))\n    case $words[1] in\n";
    for (const CommandText& command : subcommands(commands))
        text += zsh_command(command);
    return text + "    esac\n}\n\n_kvfold \"$@\"\n";
}

std::string fish_completion(const std::vector<CommandText>& commands) {
    std::string text =
        "# fish completion of kvfold, made by \"kvfold describe fish\"\n\ncomplete -c kvfold -f\n";
    for (const OptionText& option : commands.front().options)
        text += fish_option("__fish_use_subcommand", option);
    for (const CommandText& command : subcommands(commands)) {
        text += kvfold::format("complete -c kvfold -n __fish_use_subcommand -a {} -d {}\n", command.name,
                               fish_quoted(command.summary));
    }
    for (const CommandText& command : subcommands(commands)) {
        text += "\n";
        for (const OptionText& option : command.options)
            text += fish_option("__fish_seen_subcommand_from " + command.name, option);
    }
    return text;
}

} // namespace kvfold::cli
