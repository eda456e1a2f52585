// kvfold.1, in the man macros.
#include "cli/description.h"

#include "base/format.h"

#include <sstream>

namespace kvfold::cli {

namespace {

struct Entry {
    std::string_view name, meaning;
};
constexpr Entry kVariables[] = {
    {"KVFOLD_LLAMA_PREFIX", "The prefix of the llama.cpp whose bin/llama-server kvfold serve runs."},
    {"KVFOLD_PRELOAD_LIBRARY",
     "The file of the preload library of kvfold run and kvfold serve, where it does "
     "not stand beside the program."},
    {"KVFOLD_KERNELS", "The instruction set of the solver: avx512, avx2 or baseline in a build for any "
                       "processor. Without it the best that the processor has; kvfold --version names it."},
    {"NO_COLOR", "When set, nothing is printed in bold."},
};

// A line of text: no character of it is a command to roff.
std::string plain(std::string_view text) {
    std::string line;
    for (const char c : text) {
        if (c == '\\')
            line += "\\e";
        else if (c == '-')
            line += "\\-"; // a minus sign, which can be copied to a shell
        else
            line += c;
    }
    return line.starts_with('.') || line.starts_with('\'') ? "\\&" + line : line;
}

std::string bold(std::string_view text) { return "\\fB" + plain(text) + "\\fR"; }
std::string italic(std::string_view text) { return "\\fI" + plain(text) + "\\fR"; }

std::string entry(const std::string& name, std::string_view meaning) {
    return ".TP\n" + name + "\n" + plain(meaning) + "\n";
}

std::string option_entry(const OptionText& option) {
    if (option.is_positional) return entry(italic(option.names.front()), option.help);
    const std::string names = joined(option.names, ", ", bold);
    return entry(option.value.empty() ? names : names + " " + italic(option.value), option.help);
}

// Lines flow together, but for those that show a command, and those of a list: a word, two spaces, its
// meaning.
std::string footer(const std::string& text) {
    std::string page;
    bool in_list = false;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        line = CLI::detail::trim(line);
        const size_t gap = line.find("  ");
        const bool is_command = line.starts_with("kvfold ");
        if (gap != std::string::npos) {
            page += entry(bold(line.substr(0, gap)), CLI::detail::trim_copy(line.substr(gap)));
        } else if (line.empty() || is_command || in_list || page.empty()) {
            page += ".PP\n";
        }
        if (is_command) page += bold(line) + "\n.PP\n";
        if (gap == std::string::npos && !line.empty() && !is_command) page += plain(line) + "\n";
        in_list = gap != std::string::npos;
    }
    return page;
}

std::string arguments(const CommandText& command) {
    std::string text = "[" + italic("OPTIONS") + "]";
    for (const OptionText& option : command.options)
        if (option.is_positional) text += " " + italic(option.value);
    return text;
}

std::string section(const CommandText& command) {
    std::string text = ".SS " + plain("kvfold " + command.name) + "\n" + plain(command.summary) + ".\n.PP\n" +
                       bold("kvfold " + command.name) + " " + arguments(command) + "\n";
    for (const OptionText& option : command.options)
        if (option.names.back() != "--help") text += option_entry(option);
    return text + footer(command.footer);
}

} // namespace

std::string manual_page(const std::vector<CommandText>& commands) {
    const CommandText& program = commands.front();
    std::string text = kvfold::format(".TH KVFOLD 1 \"\" \"kvfold {}\" \"User Commands\"\n", KVFOLD_VERSION);
    text += ".SH NAME\nkvfold \\- compact the KV cache of llama.cpp models\n"
            ".SH SYNOPSIS\n.B kvfold\n" +
            italic("COMMAND") + " " + arguments(program) + "\n.SH DESCRIPTION\n" + plain(program.summary) +
            "\n";
    for (auto command = commands.begin() + 1; command != commands.end(); ++command)
        text += entry(bold(command->name), command->summary);
    text += ".SH OPTIONS\n";
    for (const OptionText& option : program.options)
        text += option_entry(option);
    text += ".SH COMMANDS\n";
    for (auto command = commands.begin() + 1; command != commands.end(); ++command)
        text += section(*command);
    text += ".SH ENVIRONMENT\n";
    for (const Entry& variable : kVariables)
        text += entry(bold(variable.name), variable.meaning);
    return text + ".SH EXIT STATUS\n" + plain(program.footer) + "\n";
}

} // namespace kvfold::cli
